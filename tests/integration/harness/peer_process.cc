// The test's end of the pipes. See peer_process.h.
#include "harness/peer_process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <poll.h>
#include <unistd.h>

namespace pccl::itest {

namespace {

using Clock = std::chrono::steady_clock;

/// The path of pccl-test-peer; by default in the folder of the test's executable.
std::string peer_program() {
    const std::string self = tools::self_path();
    return self.substr(0, self.rfind('/') + 1) + "pccl-test-peer";
}

}  // namespace

PeerProcess::PeerProcess(std::string name) : name_(std::move(name)) {
    ::signal(SIGPIPE, SIG_IGN);  // the death of a peer is noticed as a missing answer
    child_ = tools::Child::spawn({peer_program(), name_}, {.capture_stdout = true, .pipe_stdin = true, .stderr_file = {}});
}

int PeerProcess::start(const std::string &call, Json arguments) {
    const int number = next_number_++;
    arguments["id"] = number;
    arguments["call"] = call;
    pending_[number] = call;
    const std::string line = arguments.dump() + "\n";
    for (std::size_t done = 0; done < line.size();) {
        const ssize_t wrote = ::write(child_.input(), line.data() + done, line.size() - done);
        if (wrote < 0 && errno != EINTR) break;
        if (wrote > 0) done += static_cast<std::size_t>(wrote);
    }
    return number;
}

std::string PeerProcess::describe_pending() const {
    std::string text;
    for (const auto &[number, call] : pending_)
        text += (text.empty() ? "" : ", ") + call;
    return text.empty() ? "nothing" : text;
}

bool PeerProcess::read_some(Clock::time_point end) {
    pollfd entry{child_.output(), POLLIN, 0};
    const auto left = std::chrono::ceil<Millis>(end - Clock::now()).count();
    const int ready = ::poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready <= 0) return false;
    char buffer[65536];
    const ssize_t got = ::read(child_.output(), buffer, sizeof buffer);
    if (got <= 0) {
        const auto status = child_.wait(Millis(5000));
        throw NoAnswer(name_ + " " + (status ? tools::describe_status(*status) : "closed its pipe") +
                       " while in: " + describe_pending());
    }
    partial_line_.append(buffer, static_cast<std::size_t>(got));
    std::size_t begin = 0;
    for (std::size_t eol; (eol = partial_line_.find('\n', begin)) != std::string::npos; begin = eol + 1) {
        Json message = Json::parse(partial_line_.substr(begin, eol - begin));
        if (message.contains("event")) {
            events_.push_back(std::move(message));
        } else {
            const int number = message.at("id").get<int>();
            pending_.erase(number);
            answers_[number] = std::move(message);
        }
    }
    partial_line_.erase(0, begin);
    return true;
}

Json PeerProcess::finish(int number, Millis limit) {
    const auto end = Clock::now() + limit;
    while (true) {
        if (const auto found = answers_.find(number); found != answers_.end()) {
            Json answer = std::move(found->second);
            answers_.erase(found);
            return answer;
        }
        if (!read_some(end) && Clock::now() >= end) {
            throw NoAnswer(name_ + " hangs: no answer within " + std::to_string(limit.count()) +
                           " ms; waiting in: " + describe_pending());
        }
    }
}

bool PeerProcess::answered(int number) {
    while (!answers_.contains(number) && read_some(Clock::now())) {
    }
    return answers_.contains(number);
}

Json PeerProcess::next_event(Millis limit) {
    const auto end = Clock::now() + limit;
    while (events_.empty()) {
        if (!read_some(end) && Clock::now() >= end) {
            throw NoAnswer(name_ + ": no event within " + std::to_string(limit.count()) + " ms; in: " + describe_pending());
        }
    }
    Json event = std::move(events_.front());
    events_.pop_front();
    return event;
}

std::deque<Json> PeerProcess::take_events() {
    while (read_some(Clock::now())) {
    }
    return std::exchange(events_, {});
}

void PeerProcess::stop() { child_.signal(SIGSTOP); }
void PeerProcess::resume() { child_.signal(SIGCONT); }

int PeerProcess::end(Millis limit) {
    child_.close_input();
    if (const auto status = child_.wait(limit)) return *status;
    throw NoAnswer(name_ + " does not exit; in: " + describe_pending());
}

pcclResult_t code(const Json &answer) { return static_cast<pcclResult_t>(answer.at("code").get<int>()); }

}  // namespace pccl::itest
