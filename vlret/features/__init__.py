"""What a frozen image backbone says of an image, computed once and cached."""
