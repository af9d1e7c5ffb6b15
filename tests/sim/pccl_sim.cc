// pccl-sim: runs simulated worlds from seeds, and prints the messages of a run on request.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cluster.h"
#include "simulation.h"
#include "transcript.h"

namespace {

constexpr const char *kHelp = R"(usage: pccl-sim [options]
Runs the real protocol state machines of a master and its peers in a modelled world, checking the protocol's invariants.

  --seed N          one run, with this seed
  --seeds A..B      one run with each seed from A to B, inclusive (default 1..100)
  --profile P       kind of run (default: every profile in turn); names below
  --transcript      print every message, call and fault of each run
  --help

Exit status 1 if an invariant was violated.
profiles:
)";

struct Options {
    std::uint64_t first = 1, last = 100;
    const pccl::sim::Profile *profile = nullptr;
    bool transcript = false;
};

void help(std::FILE *out) {
    std::fputs(kHelp, out);
    for (const auto &p : pccl::sim::profiles())
        std::fprintf(out, "  %-12s %s\n", p.name, p.what);
}

bool parse(int argc, char **argv, Options &options) {
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (arg == "--help") {
            help(stdout);
            std::exit(0);
        } else if (arg == "--transcript") {
            options.transcript = true;
        } else if (arg == "--seed" && value) {
            options.first = options.last = std::strtoull(argv[++i], nullptr, 10);
        } else if (arg == "--seeds" && value) {
            char *end = nullptr;
            options.first = std::strtoull(argv[++i], &end, 10);
            if (std::strncmp(end, "..", 2) != 0) return false;
            options.last = std::strtoull(end + 2, nullptr, 10);
        } else if (arg == "--profile" && value) {
            options.profile = pccl::sim::find_profile(argv[++i]);
            if (!options.profile) return false;
        } else {
            return false;
        }
    }
    return true;
}

/// Lines of the transcript printed for a run that failed, if --transcript was not given.
constexpr std::size_t kLastLines = 30;

bool run_one(const pccl::sim::Profile &profile, std::uint64_t seed, bool transcript, std::uint64_t &events) {
    pccl::sim::RunOptions options{&profile, seed, nullptr, {}};
    pccl::sim::Transcript lines([](const std::string &line) { std::puts(line.c_str()); });
    if (transcript) {
        options.transcript = &lines;
        options.sabotage = [&](pccl::sim::Cluster &cluster) { lines.set_clock([&] { return cluster.queue().now(); }); };
    }
    const auto report = pccl::sim::run(options);
    events += report.events;
    if (transcript)
        std::printf("%llu events, %.1f virtual seconds, %llu reduces\n", static_cast<unsigned long long>(report.events),
                    static_cast<double>(report.virtual_time.count()) / 1e6, static_cast<unsigned long long>(report.reduced));
    for (const auto &violation : report.violations)
        std::printf("%s seed %llu: %s\n", profile.name, static_cast<unsigned long long>(seed), violation.c_str());
    if (!report.violations.empty() && !transcript) std::printf("%s", pccl::sim::last_lines(options, kLastLines).c_str());
    return report.violations.empty();
}

}  // namespace

int main(int argc, char **argv) {
    Options options;
    if (!parse(argc, argv, options)) {
        help(stderr);
        return 2;
    }
    const auto began = std::chrono::steady_clock::now();
    std::uint64_t runs = 0, failures = 0, events = 0;
    for (const auto &profile : pccl::sim::profiles()) {
        if (options.profile && options.profile != &profile) continue;
        for (std::uint64_t seed = options.first; seed <= options.last; ++seed) {
            ++runs;
            failures += !run_one(profile, seed, options.transcript, events);
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf("%llu runs, %llu failed; %.0f runs/s, %.0f events a run\n", static_cast<unsigned long long>(runs),
                static_cast<unsigned long long>(failures), static_cast<double>(runs) / took.count(),
                static_cast<double>(events) / static_cast<double>(runs));
    return failures == 0 ? 0 : 1;
}
