// pccl-perf: measures and checks all-reduce, in the manner of nccl-tests.
#include "perf/local_run.h"
#include "perf/options.h"
#include "perf/peer.h"

#include <pccl.h>

#include <cstdio>
#include <exception>

int main(int argc, char **argv) {
    using namespace pccl::perf;
    static_cast<void>(pcclInit());  // first: it opens the standard descriptors that are closed
    int exit_code = 0;
    const auto options = parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    try {
        return options->local() ? run_local(*options, argc, argv) : run_peer(*options);
    } catch (const std::exception &error) {
        if (options->index >= 0)
            std::fprintf(stderr, "pccl-perf: peer %d of %d: %s\n", options->index, options->peers, error.what());
        else
            std::fprintf(stderr, "pccl-perf: %s\n", error.what());
        return 2;
    }
}
