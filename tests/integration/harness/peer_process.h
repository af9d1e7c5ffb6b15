// A peer in a separate process that its test controls: the test sends calls, and the peer makes them and answers.
//
// Calls and answers are lines of JSON over pipes. A call names a thread of the peer (0 by default); calls of one thread are made
// in order, calls of different threads at the same time. Every wait has a limit, so that a hang is a failed test that names the
// peer.
#pragma once

#include "common/child.h"
#include "harness/json.h"

#include <pccl.h>

#include <chrono>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>

namespace pccl::itest {

using Millis = std::chrono::milliseconds;
inline constexpr Millis kAnswerLimit{30000};

/// No answer arrived in time, or the peer ended before it answered.
class NoAnswer : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class PeerProcess {
public:
    /// Messages contain `name`. Calls make the settings of the peer.
    explicit PeerProcess(std::string name);

    const std::string &name() const { return name_; }
    pid_t pid() const { return child_.pid(); }

    /// Sends a call, e.g. start("reduce", {{"count", 7}}), and returns its number.
    int start(const std::string &call, Json arguments = Json::object());
    /// The answer to that call: "code", "error" and fields of the call.
    Json finish(int number, Millis limit = kAnswerLimit);
    Json call(const std::string &call, Json arguments = Json::object(), Millis limit = kAnswerLimit) {
        return finish(start(call, std::move(arguments)), limit);
    }
    /// Whether the answer has arrived.
    bool answered(int number);
    /// The next event that a long call emits.
    Json next_event(Millis limit = kAnswerLimit);
    /// The events that have arrived. Does not wait.
    std::deque<Json> take_events();

    void kill() { child_.signal(9); }
    void stop();
    void resume();
    /// Asks it to exit and reaps it. Returns its wait status.
    int end(Millis limit = kAnswerLimit);
    tools::Child &child() { return child_; }

private:
    std::string name_;
    tools::Child child_;
    int next_number_ = 1;
    std::string partial_line_;
    std::map<int, std::string> pending_;  ///< calls without an answer, for messages
    std::map<int, Json> answers_;
    std::deque<Json> events_;

    /// Reads the available bytes; waits until `end` for the first one. Returns false at the limit. Throws NoAnswer if the peer
    /// has ended.
    bool read_some(std::chrono::steady_clock::time_point end);
    std::string describe_pending() const;
};

/// The code of an answer.
pcclResult_t code(const Json &answer);

}  // namespace pccl::itest
