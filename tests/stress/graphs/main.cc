// pccl-graph-losses counts the peers that a loss of peers or links disrupts, in the master's graphs of neighbours.
//
// It computes with the library's graphs, without processes, because a run can show neither the loss of links between living
// peers nor graphs that are not repaired. The question is from "disrupted P2P" (arXiv 2310.02986): hubs compared with leaves of
// a Barabasi-Albert graph.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "topology/neighbours.h"

namespace pccl {
namespace {

using topology::Graph;
using wire::GraphKind;
using Edges = std::set<Graph::Edge>;
using Members = std::set<PeerId>;

/// A graph after a loss, and the graph before.
struct Loss {
    Members gone;
    Edges cut;  ///< edges of `gone` and other lost edges
};

/// Percentages of the survivors, unless the field names another total.
struct Damage {
    double lost_peers = 0.0;  ///< percentage of all peers
    double cut_links = 0.0;   ///< percentage of all links
    double cut_off = 0.0;     ///< survivors outside the largest connected part
    double short_of = 0.0;    ///< survivors with fewer neighbours than before, so that their rounds have fewer models
    double mended_cut_off = 0.0,
           mended_too_few = 0.0;  ///< after the master's repair: cut off; with fewer neighbours than `degree`
    double new_links = 0.0;       ///< links added by the repair, as a percentage of all links before

    Damage &operator+=(const Damage &o) {
        lost_peers += o.lost_peers, cut_links += o.cut_links, cut_off += o.cut_off, short_of += o.short_of;
        mended_cut_off += o.mended_cut_off, mended_too_few += o.mended_too_few, new_links += o.new_links;
        return *this;
    }
};

/// Members that join one after the other, as in a run.
Graph grown(GraphKind kind, std::uint32_t degree, std::uint64_t seed, std::uint64_t peers) {
    Graph graph(wire::GraphSpec{kind, degree, seed});
    Members members;
    for (std::uint64_t id = 1; id <= peers; ++id) {
        members.insert(PeerId{id});
        graph.update(members);
    }
    return graph;
}

Members members_of(const Graph &graph) {
    const auto ids = graph.members();
    return {ids.begin(), ids.end()};
}

Edges edges_of(const Graph &graph) {
    const auto edges = graph.edges();
    return {edges.begin(), edges.end()};
}

/// The size of the largest part that is connected by these edges.
std::size_t largest_part(const Members &members, const Edges &edges) {
    std::map<PeerId, std::vector<PeerId>> near;
    for (const auto &[a, b] : edges) {
        near[a].push_back(b);
        near[b].push_back(a);
    }
    std::size_t largest = 0;
    Members seen;
    for (const PeerId start : members) {
        if (!seen.insert(start).second) continue;
        std::vector<PeerId> part{start};
        for (std::size_t i = 0; i < part.size(); ++i) {
            for (const PeerId other : near[part[i]]) {
                if (seen.insert(other).second) part.push_back(other);
            }
        }
        largest = std::max(largest, part.size());
    }
    return largest;
}

/// The members ordered by number of neighbours, most or fewest first, with ties in random order.
std::vector<PeerId> by_degree(const Graph &graph, bool hubs_first, std::mt19937_64 &random) {
    auto ids = graph.members();
    std::ranges::shuffle(ids, random);
    std::ranges::stable_sort(ids, std::less(), [&](PeerId id) {
        const auto degree = static_cast<std::ptrdiff_t>(graph.neighbours(id).size());
        return hubs_first ? -degree : degree;
    });
    return ids;
}

Loss without(const Graph &graph, const std::vector<PeerId> &order, std::size_t count) {
    Loss loss;
    loss.gone.insert(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
    for (const auto &edge : graph.edges()) {
        if (loss.gone.contains(edge.first) || loss.gone.contains(edge.second)) loss.cut.insert(edge);
    }
    return loss;
}

Damage damage(const Graph &graph, const Loss &loss) {
    Members left = members_of(graph), bereft;
    const auto percent = [](std::size_t part, std::size_t whole) {
        return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<std::size_t>(whole, 1));
    };
    for (const PeerId id : loss.gone)
        left.erase(id);
    Edges edges = edges_of(graph);
    const std::size_t before = edges.size();
    for (const auto &edge : loss.cut) {
        edges.erase(edge);
        for (const PeerId end : {edge.first, edge.second}) {
            if (left.contains(end)) bereft.insert(end);
        }
    }
    Damage out;
    out.lost_peers = percent(loss.gone.size(), graph.members().size());
    out.cut_links = percent(loss.cut.size(), before);
    out.cut_off = percent(left.size() - largest_part(left, edges), left.size());
    out.short_of = percent(bereft.size(), left.size());
    Graph mended = graph;
    mended.update(left);
    Edges after = edges_of(mended);
    out.mended_cut_off = percent(left.size() - largest_part(left, after), left.size());
    const std::size_t least = std::min<std::size_t>(graph.spec().degree, left.size() - 1);
    out.mended_too_few = percent(
        static_cast<std::size_t>(std::ranges::count_if(left, [&](PeerId id) { return mended.neighbours(id).size() < least; })),
        left.size());
    for (const auto &edge : edges)
        after.erase(edge);
    out.new_links = percent(after.size(), before);
    return out;
}

struct Options {
    std::uint64_t peers = 50, seeds = 100;
    std::uint32_t degree = 2;
    std::string kind = "barabasi-albert";
    std::vector<double> percent{10, 20, 30};
};

/// The compared losses: the peers with the most links, the peers with the fewest links, random peers, and as many links between
/// remaining peers as the first loss cuts.
std::map<std::string, Damage> losses(const Options &options, double percent) {
    const auto count = static_cast<std::size_t>(static_cast<double>(options.peers) * percent / 100.0 + 0.5);
    std::map<std::string, Damage> sums;
    for (std::uint64_t seed = 1; seed <= options.seeds; ++seed) {
        std::mt19937_64 random(seed);
        const GraphKind kind = options.kind == "random" ? GraphKind::random_regular : GraphKind::preferential;
        const Graph graph = grown(kind, options.degree, seed, options.peers);
        auto any = graph.members();
        std::ranges::shuffle(any, random);
        const Loss hubs = without(graph, by_degree(graph, true, random), count);
        sums["peers: hubs"] += damage(graph, hubs);
        sums["peers: leaves"] += damage(graph, without(graph, by_degree(graph, false, random), count));
        sums["peers: any"] += damage(graph, without(graph, any, count));
        sums["links: those of the hubs"] += damage(graph, {{}, hubs.cut});
        auto edges = graph.edges();
        std::ranges::shuffle(edges, random);
        edges.resize(hubs.cut.size());
        sums["links: any, as many"] += damage(graph, {{}, {edges.begin(), edges.end()}});
    }
    return sums;
}

/// A graph that has lost no member is not repaired, so those columns are null for a loss of links.
void print(const Options &options, double percent, const std::string &what, const Damage &sum) {
    const auto mean = [&](double value) { return value / static_cast<double>(options.seeds); };
    const auto mended = [&](double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.2f", mean(value));
        return std::string(sum.lost_peers > 0.0 ? text : "null");
    };
    std::printf(
        "{\"graph\":\"%s\",\"peers\":%llu,\"degree\":%u,\"seeds\":%llu,\"percent\":%g,\"loss\":\"%s\",\"lost_peers\":%.2f,"
        "\"cut_links\":%.2f,\"cut_off\":%.2f,\"short_of\":%.2f,\"mended_cut_off\":%s,\"mended_too_few\":%s,\"new_links\":%s}\n",
        options.kind.c_str(), static_cast<unsigned long long>(options.peers), options.degree,
        static_cast<unsigned long long>(options.seeds), percent, what.c_str(), mean(sum.lost_peers), mean(sum.cut_links),
        mean(sum.cut_off), mean(sum.short_of), mended(sum.mended_cut_off).c_str(), mended(sum.mended_too_few).c_str(),
        mended(sum.new_links).c_str());
}

}  // namespace
}  // namespace pccl

int main(int argc, char **argv) {
    pccl::Options options;
    CLI::App app{
        "Counts the peers that a loss of peers or links disrupts in a graph of neighbours, before and after the master repairs "
        "it.\n"
        "Prints one JSON object per loss: percentages of the survivors, means over the seeds. Exit status 1 if a repaired graph\n"
        "leaves a peer cut off, or with fewer neighbours than the degree.",
        "pccl-graph-losses"};
    app.add_option("--graph", options.kind, "barabasi-albert or random")
        ->check(CLI::IsMember({"barabasi-albert", "random"}))
        ->capture_default_str();
    app.add_option("--peers", options.peers, "members of the graph")->check(CLI::Range(8, 2000))->capture_default_str();
    app.add_option("--degree", options.degree, "as in pcclGraphOptions_t")->check(CLI::Range(2, 64))->capture_default_str();
    app.add_option("--seeds", options.seeds, "graphs")->check(CLI::Range(1, 100'000))->capture_default_str();
    app.add_option("--percent", options.percent, "percentage of the peers that are lost or lose their links")
        ->check(CLI::Range(1, 90))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    bool mended = true;
    for (const double percent : options.percent) {
        for (const auto &[what, sum] : pccl::losses(options, percent)) {
            pccl::print(options, percent, what, sum);
            if (what.starts_with("peers")) mended &= sum.mended_cut_off == 0.0 && sum.mended_too_few == 0.0;
        }
    }
    if (!mended) std::fprintf(stderr, "pccl-graph-losses: a repaired graph does not have the guaranteed properties\n");
    return mended ? 0 : 1;
}
