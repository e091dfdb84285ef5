"""What a call costs on its way from bytes to bytes, beside those who do less or otherwise."""
