// PCCL_ASSERT(condition): states an invariant of this code and checks it. Errors of peers, networks and callers are Results,
// never assertions.
//
// A broken invariant is a bug of PCCL. The consequence depends on the process:
//
//   abort  In the simulator, the protocol's unit tests, the replay of fuzz corpora and builds with -DPCCL_ASSERTIONS=ON (presets
//          dev, asan, tsan and fuzz) the process prints the condition with its place and aborts. State machines also check all of
//          their invariants after every step.
//          pccl-master does so too: it sets PCCL_ASSERTIONS=abort for its process unless the variable is set already. Started
//          again with its journal, it continues the run.
//   throw  Elsewhere, including a trainer's process, PCCL_ASSERT throws BrokenInvariant. protocol::Peer::step
//          catches it: the communicator fails with pcclInternalError and the text, and the process continues.
//          protocol::Master::step logs it as an error. Walks over the whole state (check_invariants) do not run.
//
// The objects of a layer are shared by libpccl and the programs, so the choice is made at run time: by
// abort_on_broken_invariants(), or for a process by the environment variable PCCL_ASSERTIONS, "abort" or "throw", which pcclInit
// reads.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace pccl {

class BrokenInvariant : public std::logic_error {
    using std::logic_error::logic_error;
};

namespace detail {
#ifdef PCCL_ASSERTIONS
inline std::atomic<bool> abort_on_broken_invariant{true};
#else
inline std::atomic<bool> abort_on_broken_invariant{false};
#endif
}  // namespace detail

/// Called by a program before it starts threads of this library.
inline void abort_on_broken_invariants(bool on) { detail::abort_on_broken_invariant.store(on, std::memory_order_relaxed); }

/// True where a broken invariant aborts. State machines then call their check_invariants() at the end of a step.
inline bool aborts_on_broken_invariants() { return detail::abort_on_broken_invariant.load(std::memory_order_relaxed); }

[[noreturn]] inline void report_broken_invariant(const char *condition, const char *file, int line) {
    const std::string text = std::string("broken invariant: ") + condition + " at " + file + ":" + std::to_string(line) +
                             "; report this as a bug of PCCL";
    if (!aborts_on_broken_invariants()) throw BrokenInvariant(text);
    std::fprintf(stderr, "%s\n", text.c_str());
    std::abort();
}

}  // namespace pccl

#define PCCL_ASSERT(condition)                                                                                                   \
    (static_cast<bool>(condition) ? static_cast<void>(0) : ::pccl::report_broken_invariant(#condition, __FILE__, __LINE__))
