"""One short main per entry point of MLproject, the parameters they take, and what they share."""
