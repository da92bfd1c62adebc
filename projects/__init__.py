"""One main per entry point of MLproject; what they do and share lies in the rooms beside them."""
