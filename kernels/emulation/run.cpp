// The CUDA source compiled for the CPU, with a function that accepts the same arguments as cuLaunchKernel.
#include "cuda_stub.h"

#include SOURCE

#include <cstddef>
#include <utility>

namespace {

template <typename... A, std::size_t... I>
int launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments, unsigned count,
           bool descending, std::index_sequence<I...>) {
    if (count != sizeof...(A)) return 2;
    for (unsigned block = 0; block < blocks; ++block) {
        blockIdx.x = block;
        emulation::body = [=] { kernel(*static_cast<A*>(arguments[I])...); };
        if (!emulation::run_block(threads, descending)) return 3;
    }
    return 0;
}

template <typename... A>
int launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments, unsigned count,
           bool descending) {
    return launch(kernel, blocks, threads, arguments, count, descending, std::index_sequence_for<A...>());
}

}  // namespace

// Run a kernel. Return 0 on success, 1 for an unknown kernel, 2 for a wrong number of arguments, and 3 if not all
// threads reach a barrier.
extern "C" int emulate(const char* name, unsigned blocks, unsigned threads, void** arguments, unsigned count,
                       bool descending) {
#define TRY(kernel) \
    if (!std::strcmp(name, #kernel)) return launch(kernel, blocks, threads, arguments, count, descending)
    TRY(correlation);
    TRY(correlation_gradient);
    TRY(local_transfer);
    TRY(local_transfer_target_gradient);
    TRY(local_transfer_reference_gradient);
    return 1;
}
