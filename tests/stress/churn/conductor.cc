// The conductor has one thread. It polls the trainers' pipes and acts when the next action is due.
#include "churn/conductor.h"

#include "common/child.h"
#include "common/handles.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <poll.h>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace pccl::churn {

namespace {

using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;
constexpr std::size_t kKeptWords = 40;

struct Counts {
    std::uint64_t steps = 0;    ///< steps of the run: its highest revision
    std::uint64_t reports = 0;  ///< reports of steps by all trainers
    std::uint64_t kills = 0, stops = 0, leaves = 0, removed = 0, joins = 0;
    std::uint64_t hangs = 0, wrong = 0, crashes = 0;
};

struct Process {
    tools::Child child;
    int slot = 0;
    std::string partial_line;
    Clock::time_point last_step;                   ///< the time of its last step, or the time when it began or was continued
    std::string last_words;                        ///< its last line other than a step
    std::optional<Clock::time_point> continue_at;  ///< the end of its stop
    bool steps = false;                            ///< has made a step since it began or was stopped: it holds the run's state
    bool stopped = false;
    bool doomed = false;  ///< the conductor killed it or asked it to leave
};

class Conductor {
public:
    explicit Conductor(const Options &options) : options_(options), random_(options.seed) { start_master(); }

    int run() {
        const auto begin = Clock::now();
        const auto end =
            begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.minutes * 60));
        auto next_action = begin + Millis(1000);
        auto next_line = begin;
        auto next_spawn = begin;
        while (Clock::now() < end && counts_.hangs == 0) {
            read_pipes(Millis(10));
            reap();
            continue_stopped();
            look_for_hangs();
            if (Clock::now() >= next_spawn && processes_.size() < static_cast<std::size_t>(options_.peers)) {
                spawn();
                next_spawn = Clock::now() + Millis(random_() % 300);
            }
            if (Clock::now() >= next_action) {
                act();
                next_action = Clock::now() + Millis(50 + random_() % 700);
            }
            if (Clock::now() >= next_line) {
                print_progress(std::chrono::duration<double>(Clock::now() - begin).count());
                next_line = Clock::now() + Millis(::isatty(STDOUT_FILENO) != 0 ? 200 : 5000);
            }
        }
        end_all();
        return report();
    }

private:
    Options options_;
    std::mt19937_64 random_;
    std::optional<tools::Master> master_;
    std::optional<tools::Child> master_process_;
    std::string address_;
    std::vector<std::unique_ptr<Process>> processes_;
    std::map<std::uint64_t, std::string> hashes_;  ///< hashes of the weights by revision; recent ones only
    std::vector<std::string> words_;               ///< descriptions of failures
    Counts counts_;

    void start_master() {
        std::uint16_t port = 0;
        if (options_.master_process) {
            master_process_ = tools::Child::spawn(
                {tools::self_path(), "--serve-master", "--heartbeat-timeout-ms", std::to_string(options_.heartbeat_timeout_ms)},
                {.capture_stdout = true, .pipe_stdin = false, .stderr_file = {}});
            std::FILE *out = ::fdopen(::dup(master_process_->output()), "r");
            unsigned number = 0;
            if (out == nullptr || std::fscanf(out, "%u", &number) != 1)
                throw std::runtime_error("the master process did not start");
            std::fclose(out);
            port = static_cast<std::uint16_t>(number);
        } else {
            tools::require("pcclInit", pcclInit());
            pcclMasterConfig_t config{};
            tools::require("pcclMasterConfigInit", pcclMasterConfigInit(&config));
            config.listen_address = "127.0.0.1:0";
            config.heartbeat_timeout_ms = options_.heartbeat_timeout_ms;
            master_ = tools::Master::start(config);
            port = master_->port;
        }
        address_ = "127.0.0.1:" + std::to_string(port);
    }

    void spawn() {
        std::vector<bool> taken(64, false);
        for (const auto &process : processes_)
            taken[static_cast<std::size_t>(process->slot)] = true;
        auto process = std::make_unique<Process>();
        process->slot = static_cast<int>(std::ranges::find(taken, false) - taken.begin());
        process->last_step = Clock::now();
        process->child = tools::Child::spawn({tools::self_path(), "--trainer", address_, "--slot", std::to_string(process->slot),
                                              "--seed", std::to_string(random_())},
                                             {.capture_stdout = true, .pipe_stdin = false, .stderr_file = {}});
        processes_.push_back(std::move(process));
    }

    void note(const Process &process, const std::string &words) {
        if (words_.size() < kKeptWords) words_.push_back("slot " + std::to_string(process.slot) + ": " + words);
    }

    void hear(Process &process, const std::string &line) {
        const std::size_t space = line.find(' ');
        const std::string kind = line.substr(0, space);
        const std::string words = space == std::string::npos ? "" : line.substr(space + 1);
        if (kind != "step") process.last_words = line;
        if (kind == "step") {
            hear_step(process, words);
        } else if (kind == "joined") {
            ++counts_.joins;
        } else if (kind == "removed") {
            ++counts_.removed;
            process.last_step = Clock::now();
            process.steps = false;
        } else if (kind == "wrong") {
            ++counts_.wrong;
            note(process, line);
        } else if (kind == "fatal") {
            note(process, line);  // counted when it exits
        }
    }

    void hear_step(Process &process, const std::string &words) {
        process.last_step = Clock::now();
        process.steps = true;
        ++counts_.reports;
        const std::uint64_t revision = std::stoull(words);
        const auto [entry, is_new] = hashes_.try_emplace(revision, words);
        if (!is_new && entry->second != words) {
            ++counts_.wrong;
            note(process, "weights after step " + words + " differ from another member's: " + entry->second);
        }
        counts_.steps = std::max(counts_.steps, revision);
        if (hashes_.size() > 20000) hashes_.erase(hashes_.begin());
    }

    void read_pipes(Millis limit) {
        std::vector<pollfd> entries;
        for (const auto &process : processes_)
            entries.push_back({process->child.output(), POLLIN, 0});
        if (::poll(entries.data(), entries.size(), static_cast<int>(limit.count())) <= 0) return;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            if ((entries[i].revents & POLLIN) != 0) read_pipe(*processes_[i]);
        }
    }

    /// Returns false at the end of the output.
    bool read_pipe(Process &process) {
        char buffer[16384];
        const ssize_t got = ::read(process.child.output(), buffer, sizeof buffer);
        if (got <= 0) return false;
        process.partial_line.append(buffer, static_cast<std::size_t>(got));
        for (std::size_t eol; (eol = process.partial_line.find('\n')) != std::string::npos;) {
            hear(process, process.partial_line.substr(0, eol));
            process.partial_line.erase(0, eol + 1);
        }
        return true;
    }

    void reap() {
        std::erase_if(processes_, [this](const auto &process) {
            if (process->child.running()) return false;
            while (read_pipe(*process)) {
            }
            const int status = *process->child.status();
            // SIGTERM kills it only before it has installed its handler.
            const bool signalled = WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);
            const bool fine = process->doomed && (status == 0 || signalled);
            if (!fine) {
                ++counts_.crashes;
                note(*process, "crash: " + tools::describe_status(status) + "; last line: " + process->last_words);
            }
            return true;
        });
    }

    void continue_stopped() {
        for (const auto &process : processes_) {
            if (!process->continue_at || Clock::now() < *process->continue_at) continue;
            process->continue_at.reset();
            process->stopped = false;
            process->last_step = Clock::now();
            process->child.signal(SIGCONT);
        }
    }

    void look_for_hangs() {
        for (const auto &process : processes_) {
            if (process->stopped || Clock::now() - process->last_step < std::chrono::seconds(options_.hang_s)) continue;
            ++counts_.hangs;
            note(*process, "hang; " + process->last_words);
        }
    }

    void kill(Process &process) {
        process.doomed = true;
        process.child.signal(SIGKILL);
    }

    /// One random action on one random trainer. At least two trainers that hold the run's state are not touched, because a run
    /// whose last member has left restarts from nothing.
    void act() {
        std::vector<Process *> well;
        std::vector<Process *> stopped;
        std::vector<Process *> joining;
        for (const auto &process : processes_) {
            if (process->doomed) continue;
            if (process->stopped) stopped.push_back(process.get());
            if (process->steps) well.push_back(process.get());
            if (!process->stopped && !process->steps) joining.push_back(process.get());
        }
        const std::uint64_t dice = random_() % 100;
        if (dice < 10 && !stopped.empty()) {  // a stopped trainer is killed instead of continued
            ++counts_.kills;
            return kill(*stopped[random_() % stopped.size()]);
        }
        if (dice >= 10 && dice < 20 && !joining.empty()) {
            ++counts_.kills;
            return kill(*joining[random_() % joining.size()]);
        }
        if (well.size() <= 2) return;
        Process &victim = *well[random_() % well.size()];
        if (dice < 60) {
            ++counts_.kills;
            kill(victim);
        } else if (dice < 85) {
            ++counts_.stops;
            victim.stopped = true;
            victim.steps = false;
            // Some trainers continue before the master detects the stop, and others long after they were removed.
            victim.continue_at = Clock::now() + Millis(100 + random_() % (3 * options_.heartbeat_timeout_ms));
            victim.child.signal(SIGSTOP);
        } else {
            ++counts_.leaves;
            victim.doomed = true;
            victim.child.signal(SIGTERM);
        }
    }

    void print_progress(double seconds) {
        const bool terminal = ::isatty(STDOUT_FILENO) != 0;
        std::printf(
            "%s%6.1f s  %zu trainers  step %llu  killed %llu  stopped %llu  left %llu  joined %llu  hangs %llu  wrong %llu  "
            "crashes %llu%s",
            terminal ? "\r" : "", seconds, processes_.size(), static_cast<unsigned long long>(counts_.steps),
            static_cast<unsigned long long>(counts_.kills), static_cast<unsigned long long>(counts_.stops),
            static_cast<unsigned long long>(counts_.leaves), static_cast<unsigned long long>(counts_.joins),
            static_cast<unsigned long long>(counts_.hangs), static_cast<unsigned long long>(counts_.wrong),
            static_cast<unsigned long long>(counts_.crashes), terminal ? "\033[K" : "\n");
        std::fflush(stdout);
    }

    /// Requests all trainers to leave. A trainer that has not ended within the limit counts as a hang.
    void end_all() {
        const bool hung = counts_.hangs > 0;
        for (const auto &process : processes_) {
            process->doomed = true;
            process->child.signal(hung ? SIGKILL : SIGTERM);
            process->child.signal(SIGCONT);
        }
        const auto limit = Clock::now() + std::chrono::seconds(options_.hang_s);
        while (!processes_.empty() && Clock::now() < limit) {
            read_pipes(Millis(10));
            reap();
        }
        for (const auto &process : processes_) {
            ++counts_.hangs;
            note(*process, "does not leave; " + process->last_words);
        }
        processes_.clear();
        end_master();
    }

    void end_master() {
        master_.reset();
        if (!master_process_) return;
        if (!master_process_->running()) {
            ++counts_.crashes;
            words_.push_back("the master " + tools::describe_status(*master_process_->status()));
        }
        master_process_->signal(SIGTERM);
        if (!master_process_->wait(Millis(10000))) {
            ++counts_.hangs;
            words_.emplace_back("the master does not end");
        }
    }

    int report() const {
        std::printf("\n");
        const std::pair<const char *, std::uint64_t> rows[] = {
            {"steps", counts_.steps},      {"steps x members", counts_.reports},
            {"kill -9", counts_.kills},    {"SIGSTOP", counts_.stops},
            {"left", counts_.leaves},      {"removed", counts_.removed},
            {"joins", counts_.joins},      {"hangs", counts_.hangs},
            {"wrong sums", counts_.wrong}, {"crashes", counts_.crashes},
        };
        for (const auto &[name, value] : rows)
            std::printf("  %-16s %8llu\n", name, static_cast<unsigned long long>(value));
        for (const std::string &words : words_)
            std::printf("  ! %s\n", words.c_str());
        const bool good = counts_.hangs == 0 && counts_.wrong == 0 && counts_.crashes == 0 && counts_.steps > 0;
        std::printf("  seed %llu: %s\n", static_cast<unsigned long long>(options_.seed), good ? "good" : "BAD");
        return good ? 0 : 1;
    }
};

}  // namespace

int conduct(const Options &options) { return Conductor(options).run(); }

int serve_master(const Options &options) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    tools::require("pcclInit", pcclInit());
    pcclMasterConfig_t config{};
    tools::require("pcclMasterConfigInit", pcclMasterConfigInit(&config));
    config.listen_address = "127.0.0.1:0";
    config.heartbeat_timeout_ms = options.heartbeat_timeout_ms;
    const tools::Master master = tools::Master::start(config);
    std::printf("%u\n", master.port);
    std::fflush(stdout);
    int received = 0;
    ::sigwait(&signals, &received);
    return 0;
}

}  // namespace pccl::churn
