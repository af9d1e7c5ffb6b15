#include "scenario.h"

#include <map>
#include <sstream>
#include <stdexcept>

#include "checkers/checker.h"
#include "cluster.h"
#include "data_plane.h"
#include "transcript.h"

namespace pccl::sim {
namespace {

/// After this time every event has happened that does not wait for a timeout.
constexpr Duration kAwait = std::chrono::milliseconds(500);

using Words = std::vector<std::string>;

Words split(const std::string &line, char at) {
    Words words;
    std::istringstream in(line);
    for (std::string word; std::getline(in, word, at);) {
        if (!word.empty()) words.push_back(word);
    }
    return words;
}

class Scenario {
public:
    Scenario()
        : cluster_(1, NetworkOptions{}, with_journal()), transcript_([this](const std::string &line) {
              if (loud_) out_ += line + "\n";
          }),
          checkers_(all_checkers(verdict_, false)) {
        cluster_.watch(transcript_);
        for (auto &checker : checkers_)
            cluster_.watch(*checker);
    }

    void command(const std::string &line) {
        out_ += "> " + line + "\n";
        Words words = split(line, ' ');
        if (words.empty()) throw std::runtime_error("a command is empty");
        const std::string verb = words.front();
        words.erase(words.begin());
        if (!(plain(verb, words) || calls(verb, words) || faults(verb, words)))
            throw std::runtime_error("unknown command: " + line);
        for (const auto &violation : verdict_.violations)
            out_ += "VIOLATED " + violation + "\n";
        verdict_.violations.clear();
    }
    void comment(const std::string &line) { out_ += line + "\n"; }
    std::string text() const { return out_; }

private:
    static protocol::MasterOptions with_journal() {
        protocol::MasterOptions options;
        options.journal = true;
        options.idle_tags = 4;
        return options;
    }

    bool plain(const std::string &verb, const Words &words) {
        if (verb == "new") {
            const GroupId group{words.size() > 1 ? static_cast<std::uint32_t>(std::stoul(words[1].substr(6))) : 0};
            nodes_[words.at(0)] = &cluster_.add_node(group, words.at(0));
        } else if (verb == "await") {
            pass(kAwait);
        } else if (verb == "run") {
            pass(parse_duration(words.at(0)).value());
        } else if (verb == "quiet" || verb == "loud") {
            loud_ = verb == "loud";
        } else {
            return false;
        }
        return true;
    }

    bool calls(const std::string &verb, const Words &words) {
        static const std::map<std::string, CallKind> kKinds = {{"connect", CallKind::connect},
                                                               {"update", CallKind::update},
                                                               {"ask", CallKind::ask},
                                                               {"optimize", CallKind::optimize}};
        if (const auto kind = kKinds.find(verb); kind != kKinds.end()) {
            for (const auto &name : words)
                cluster_.call(node(name), kind->second, [](const auto &) {});
        } else if (verb == "reduce") {
            std::string wrong;
            if (words.back().starts_with("wrong=")) wrong = words.back().substr(6);
            for (std::size_t i = 1; i < words.size(); ++i) {
                if (words[i].starts_with("wrong=")) continue;
                cluster_.call(
                    node(words[i]), CallKind::reduce, [](const auto &) {}, Tag{std::stoull(words[0])}, words[i] == wrong);
            }
        } else if (verb == "sync") {
            for (const auto &word : words) {
                const auto parts = split(word, '=');
                const auto state = split(parts.at(1), '/');
                Node &caller = node(parts.at(0));
                caller.state.revision = std::stoull(state.at(0));
                caller.state.tensors.clear();
                for (const auto &content : split(state.at(1), ','))
                    caller.state.tensors.push_back(std::stoull(content));
                cluster_.call(caller, CallKind::sync, [](const auto &) {});
            }
        } else {
            return false;
        }
        return true;
    }

    bool faults(const std::string &verb, const Words &words) {
        if (verb == "kill")
            cluster_.crash(node(words.at(0)), Cluster::Crash::reset);
        else if (verb == "silence")
            cluster_.crash(node(words.at(0)), Cluster::Crash::silent);
        else if (verb == "abort")
            cluster_.abort_calls(node(words.at(0)));
        else if (verb == "leave")
            cluster_.leave(node(words.at(0)));
        else if (verb == "hold")
            cluster_.hang(node(words.at(0)));
        else if (verb == "release")
            cluster_.resume(node(words.at(0)));
        else if (verb == "part")
            cluster_.data().set_reachable(node(words.at(0)).index, node(words.at(1)).index, false);
        else if (verb == "modify" && words.at(1).starts_with("tag="))
            cluster_.data().modify_buffer(node(words[0]), Tag{std::stoull(words[1].substr(4))});
        else if (verb == "modify")
            cluster_.data().modify_tensor(node(words.at(0)), static_cast<std::uint32_t>(std::stoul(words.at(1).substr(7))));
        else if (verb == "restart" && words.size() == 1)  // the master's process, which starts again after that time
            cluster_.crash_master(parse_duration(words[0]).value());
        else if (verb == "restart")  // it dies after that many effects of a step
            cluster_.crash_master_within(std::stoull(words.at(1)), parse_duration(words[0]).value());
        else if (verb == "swallow")  // bulk data from the first to the second, for good
            cluster_.data().lose_path(node(words.at(0)), node(words.at(1)), Paths::Loss::bulk, DataPlane::kForGood);
        else if (verb == "break")
            cluster_.data().break_link(node(words.at(0)), node(words.at(1)));
        else
            return false;
        return true;
    }

    Node &node(const std::string &name) {
        const auto found = nodes_.find(name);
        if (found == nodes_.end()) throw std::runtime_error("unknown process: " + name);
        return *found->second;
    }

    void pass(Duration time) {
        auto &queue = cluster_.queue();
        const Time until = queue.now() + time;
        while (!queue.empty() && queue.next_time() <= until)
            queue.run_next();
        queue.skip_to(until);
    }

    std::string out_;
    bool loud_ = true;
    Verdict verdict_;
    Cluster cluster_;
    Transcript transcript_;
    std::vector<std::unique_ptr<Checker>> checkers_;
    std::map<std::string, Node *> nodes_;
};

}  // namespace

std::string run_scenario(const std::string &text) {
    Scenario scenario;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with("> "))
            scenario.command(line.substr(2));
        else if (line.starts_with("#"))
            scenario.comment(line);
    }
    return scenario.text();
}

}  // namespace pccl::sim
