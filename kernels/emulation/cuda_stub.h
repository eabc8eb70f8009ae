// Replacements for the built-ins of nvcc, so that g++ can compile a CUDA source and the CPU can run it. Blocks run one
// after the other. The threads of a block are coroutines that switch at each barrier.
#pragma once
#include <math.h>
#include <ucontext.h>

#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static  // sufficient, because one block runs at a time

struct Index {
    unsigned x, y, z;
};
inline Index threadIdx, blockIdx;

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

namespace emulation {

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};

inline std::vector<Thread> threads;
inline ucontext_t scheduler;
inline std::function<void()> body;

inline void enter() {
    body();
    threads[threadIdx.x].done = true;
    swapcontext(&threads[threadIdx.x].context, &scheduler);
}

// Run a block, with its threads in ascending or descending order between barriers. Return false if some threads wait
// at a barrier that the others never reach.
inline bool run_block(unsigned count, bool descending) {
    threads.resize(count);
    for (Thread& thread : threads) {
        thread.done = false;
        thread.stack.resize(1 << 16);
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, enter, 0);
    }
    for (;;) {
        for (unsigned i = 0; i < count; ++i) {
            threadIdx.x = descending ? count - 1 - i : i;
            swapcontext(&scheduler, &threads[threadIdx.x].context);
        }
        unsigned done = 0;
        for (const Thread& thread : threads) done += thread.done;
        if (done == count) return true;
        if (done > 0) return false;
    }
}

}  // namespace emulation

inline void __syncthreads() {
    const unsigned self = threadIdx.x;
    swapcontext(&emulation::threads[self].context, &emulation::scheduler);
}
