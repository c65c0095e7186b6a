"""How much position information networks encode, after Islam, Jia and Bruce (2020).

Readouts of position maps from frozen encoders, fitted by descent and in closed form.
"""
