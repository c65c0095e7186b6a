"""Networks with and without the border's position and aliasing, on images shifted a little: how right, how steady."""
