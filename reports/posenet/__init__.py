"""The page of the study of position maps read from frozen encoders: published scores beside those found here."""
