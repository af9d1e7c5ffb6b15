#include "simulation.h"

#include <algorithm>
#include <deque>
#include <set>

#include "data_plane.h"
#include "faults.h"
#include "program.h"
#include "transcript.h"

namespace pccl::sim {
namespace {

/// Time after the last fault by which every blocked call must have returned and every program must have completed iterations.
constexpr Duration kRecovery = std::chrono::seconds(180);  // a bandwidth measurement of many peers can lose ten seconds per round
/// As kRecovery, for runs whose paths stay bad. If connections can be made over such a path, its link is given up only after it
/// has broken eight times, each after ten seconds. This can happen to several links before a peer is found to fit in no ring, and
/// again after that peer has rejoined.
constexpr Duration kRecoveryOverBadPaths = std::chrono::seconds(900);
constexpr std::uint64_t kRounds = 3;
/// Unused tags after which a round drops their counters. A member holds more: tags in use, tags of failed operations, and tags of
/// a round that has not ended.
constexpr std::uint64_t kIdleTags = 6;
constexpr std::size_t kMostTags = 60;
constexpr std::uint64_t kMaxEvents = 3'000'000;

NetworkOptions draw_network(Rng &rng, const Profile &profile) {
    NetworkOptions network;
    network.delay_min = std::chrono::microseconds(rng.between(20, 2000));
    network.delay_max = network.delay_min * rng.between(1, 40);
    network.spike_per_mille = profile.spike_per_mille;
    network.dial_fails_per_mille = profile.dial_fails_per_mille;
    network.delivers_closing = rng.per_mille(300);
    return network;
}

protocol::MasterOptions draw_master(Rng &rng, const Profile &profile) {
    protocol::MasterOptions options;
    options.journal = profile.master_crashes > 0 || rng.per_mille(300);
    options.idle_tags = kIdleTags;
    return options;
}

class Run {
public:
    explicit Run(const RunOptions &options)
        : profile_(*options.profile), rng_(mix(options.seed, 0x70ccf1)),
          cluster_(options.seed, draw_network(rng_, profile_), draw_master(rng_, profile_)),
          checkers_(all_checkers(verdict_, !profile_.expects_misuse)),
          groups_(profile_.islands_of > 0 ? rng_.between(2, profile_.islands_of) : 1 + rng_.below(profile_.groups_max)),
          rules_(draw_rules(rng_, profile_, groups_)), faults_(cluster_, profile_, programs_, rng_.next()) {
        checkers_.push_back(check_tags(verdict_, kMostTags));
        if (profile_.continuous) checkers_.push_back(check_continuity(verdict_));
        if (profile_.islands_of > 0) checkers_.push_back(check_islands(verdict_));
        if (profile_.links_alone) checkers_.push_back(check_removals(verdict_));
        if (options.transcript) cluster_.watch(*options.transcript);
        for (auto &checker : checkers_)
            cluster_.watch(*checker);
        cluster_.watch(faults_);
        if (options.sabotage) options.sabotage(cluster_);
        cluster_.data().probe_lost_per_mille = profile_.probe_lost_per_mille;
        cluster_.data().finish_slow_per_mille = static_cast<unsigned>(rng_.below(2) * 30);
        start_nodes();
    }

    RunReport go() {
        auto &queue = cluster_.queue();
        const Time quiet = faults_.quiet_from(), end = quiet + (profile_.bad_paths > 0 ? kRecoveryOverBadPaths : kRecovery);
        bool marked = false;
        std::uint64_t events = 0;
        for (; verdict_.ok() && !queue.empty(); ++events) {
            if (events > kMaxEvents) {
                verdict_.violations.push_back("liveness: the run does not come to rest");
                break;
            }
            if (!marked && queue.next_time() >= quiet) {
                mark();
                marked = true;
            }
            if (marked && events % 16 == 0 && unfinished().empty()) break;
            if (queue.next_time() > end) {
                for (const auto &what : unfinished())
                    verdict_.violations.push_back("liveness: " + what);
                break;
            }
            queue.run_next();
        }
        RunReport report{verdict_.violations, events, 0, queue.now().since_origin};
        for (const auto &program : programs_)
            report.reduced += program->reduced();
        return report;
    }

private:
    struct Mark {
        std::uint64_t rounds, reduced;
    };

    void start_nodes() {
        const std::size_t each = profile_.islands_of > 0 ? groups_ : 1;
        const auto first = each * static_cast<std::size_t>(rng_.between(profile_.nodes_min, profile_.nodes_max));
        const auto joins = each * rng_.below(profile_.joins_max + 1);
        for (std::size_t i = 0; i < first + joins; ++i) {
            const std::size_t group = each > 1 ? i % each : rng_.below(groups_);
            const Island island = each > 1 ? Island{i / each + 1, static_cast<std::uint32_t>(each)} : Island{};
            Node &node = cluster_.add_node(GroupId{static_cast<std::uint32_t>(group)}, "", island);
            programs_.push_back(std::make_unique<Program>(cluster_, node, rules_, rng_.next()));
            const Duration latest = i < first ? Duration(std::chrono::milliseconds(300)) : profile_.faults_until;
            programs_.back()->start(rng_.between(Duration(0), latest));
        }
        for (std::size_t from = 0; from < first + joins; ++from) {
            for (std::size_t to = 0; to < first + joins; ++to) {
                if (from != to && rng_.per_mille(profile_.unreachable_per_mille)) cluster_.data().set_reachable(from, to, false);
            }
        }
    }

    /// Called when faults have stopped: records the progress of every program.
    void mark() {
        cluster_.data().probe_lost_per_mille = 0;
        for (auto &program : programs_) {
            program->slow_down(1);
            marks_.push_back({program->rounds(), program->reduced()});
            for (const auto &[id, call] : program->node().calls)
                pending_.emplace_back(&program->node(), call);
        }
    }

    /// The conditions that are still missing for the run to count as recovered.
    std::vector<std::string> unfinished() const {
        std::vector<std::string> left;
        for (const auto &[node, call] : pending_) {
            if (parted() && (call.kind == CallKind::connect)) continue;
            if (node->alive && node->calls.contains(call.id))
                left.push_back(std::string(name_of(call.kind)) + " of " + node->name + " never returns");
        }
        if (parted()) return left;
        for (std::size_t i = 0; i < programs_.size(); ++i) {
            Program &program = *programs_[i];
            if (!program.active()) continue;
            if (program.rounds() < marks_[i].rounds + kRounds)
                left.push_back("the program of " + program.node().name + " makes no progress" + blocked_in(program.node()));
            else if (program.node().peer->world().group > 1 && program.reduced() < marks_[i].reduced + 1)
                left.push_back(program.node().name + " is in a world of " + std::to_string(program.node().peer->world().group) +
                               " and none of its reduces succeeds");
        }
        return left;
    }

    /// Whether two live nodes have no link and one cannot dial the other, or their path loses data. (A pair that failed once in
    /// each direction is not retried, even if one of the failures was temporary.) A receiver that can reach no source then makes
    /// every synchronization fail and its group makes no progress. This limit is known, and callers receive an error.
    bool parted() const {
        auto &data = cluster_.data();
        for (const auto &a : programs_) {
            for (const auto &b : programs_) {
                Node &x = a->node(), &y = b->node();
                if (x.index >= y.index || !x.alive || !y.alive ||
                    (data.reachable(x, y) && data.reachable(y, x) && data.path_well(x, y)))
                    continue;
                if (!data.up(x, y.peer->id())) return true;
            }
        }
        return false;
    }

    static std::string blocked_in(const Node &node) {
        std::string text;
        for (const auto &[id, call] : node.calls)
            text += std::string(text.empty() ? " in " : ", ") + name_of(call.kind);
        return text;
    }

    const Profile &profile_;
    Rng rng_;
    Verdict verdict_;
    mutable Cluster cluster_;
    std::vector<std::unique_ptr<Checker>> checkers_;
    std::size_t groups_;
    Rules rules_;
    std::vector<std::unique_ptr<Program>> programs_;
    Faults faults_;
    std::vector<Mark> marks_;
    std::vector<std::pair<const Node *, CallInfo>> pending_;
};

}  // namespace

RunReport run(const RunOptions &options) { return Run(options).go(); }

std::string last_lines(RunOptions options, std::size_t count) {
    std::deque<std::string> lines;
    Transcript transcript([&](const std::string &line) {
        lines.push_back(line);
        if (lines.size() > count) lines.pop_front();
    });
    const auto sabotage = options.sabotage;
    options.transcript = &transcript;
    options.sabotage = [&](Cluster &cluster) {
        transcript.set_clock([&] { return cluster.queue().now(); });
        if (sabotage) sabotage(cluster);
    };
    run(options);
    std::string text;
    for (const auto &line : lines)
        text += line + "\n";
    return text;
}

std::string replay_command(const RunOptions &options) {
    return "pccl-sim --profile " + std::string(options.profile->name) + " --seed " + std::to_string(options.seed) +
           " --transcript";
}

}  // namespace pccl::sim
