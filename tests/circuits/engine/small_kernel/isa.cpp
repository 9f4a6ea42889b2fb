// A function that each instruction set compiles for itself and the linker keeps once, like a standard template.
#define JOIN(a, b) a##b
#define LEVEL(set) JOIN(level_, set)

template <class T>
__attribute__((noinline)) T common() {
#if defined(__AVX512F__)
  volatile T level = 2;
#elif defined(__AVX2__)
  volatile T level = 1;
#else
  volatile T level = 0;
#endif
  return level;
}

int LEVEL(QRL_ISA)() { return common<int>(); }
