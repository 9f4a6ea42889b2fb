"""The compiled state-vector kernel: its C++ sources, how they are built, and how the library is loaded."""
