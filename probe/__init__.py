"""Where does a vision model know absolute position, why, and what happens without it?"""
