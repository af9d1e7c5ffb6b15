// pccl-test-peer: makes the calls that a test sends as lines of JSON on standard input, each thread's calls in order, and answers
// on standard output. Ends when its input ends.
#include "peer/session.h"

#include <condition_variable>
#include <cstdio>
#include <deque>
#include <iostream>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

namespace pccl::itest {

pcclComm_t *Session::comm(const Json &request) {
    const std::scoped_lock lock(mutex);
    const auto found = comms.find(request.value("comm", 0));
    return found == comms.end() ? nullptr : found->second.get();
}

Json keep(Session &session, const Json &request, std::unique_ptr<Flight> flight, pcclResult_t result) {
    Json answer = answer_of(result);
    if (result == pcclSuccess) {
        const std::scoped_lock lock(session.mutex);
        session.flights[request.at("handle")] = std::move(flight);
    }
    return answer;
}

Flight &flight_of(Session &session, const Json &request) {
    const std::scoped_lock lock(session.mutex);
    return *session.flights.at(request.at("handle"));
}

Json answer_of(pcclResult_t result) {
    return {{"code", static_cast<int>(result)}, {"error", result == pcclSuccess ? "" : pcclGetLastError()}};
}

namespace {

/// One thread of the peer and the calls that wait for it.
class Worker {
public:
    using Task = std::function<void()>;
    Worker() : thread_([this] { run(); }) {}
    void add(Task task) {
        {
            const std::scoped_lock lock(mutex_);
            tasks_.push_back(std::move(task));
        }
        wake_.notify_one();
    }

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Task> tasks_;
    std::jthread thread_;

    [[noreturn]] void run() {
        while (true) {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [this] { return !tasks_.empty(); });
            const Task task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
        }
    }
};

void write_line(const Json &message) {
    static std::mutex mutex;
    const std::string line = message.dump() + "\n";
    const std::scoped_lock lock(mutex);
    for (std::size_t done = 0; done < line.size();) {
        const ssize_t wrote = ::write(STDOUT_FILENO, line.data() + done, line.size() - done);
        if (wrote <= 0) return;  // the test has ended
        done += static_cast<std::size_t>(wrote);
    }
}

void make_call(const CallTable &table, Session &session, const Json &request) {
    Json answer;
    try {
        answer = table.at(request.at("call").get<std::string>())(session, request);
    } catch (const tools::CallFailed &failure) {
        answer = {{"code", static_cast<int>(failure.result())}, {"error", failure.what()}};
    } catch (const std::exception &error) {
        answer = {{"code", -1}, {"error", std::string("test peer: ") + error.what()}};
    }
    answer["id"] = request.at("id");
    write_line(answer);
}

void raise_file_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

int serve() {
    raise_file_limit();
    CallTable table;
    add_comm_calls(table);
    add_reduce_calls(table);
    add_state_calls(table);
    add_loop_calls(table);
    add_repair_calls(table);
    add_trainer_calls(table);
    add_exchange_calls(table);
    add_shard_calls(table);
    add_modify_calls(table);
    Session session;
    session.emit = write_line;
    std::map<int, Worker> workers;
    for (std::string line; std::getline(std::cin, line);) {
        const Json request = Json::parse(line);
        if (request.at("call") == "abort" || request.at("call") == "stop_loop") {
            make_call(table, session, request);  // not queued behind a call that blocks
        } else {
            workers[request.value("thread", 0)].add([&table, &session, request] { make_call(table, session, request); });
        }
    }
    std::fflush(nullptr);
    ::_exit(0);  // threads may be inside calls
}

}  // namespace
}  // namespace pccl::itest

int main() { return pccl::itest::serve(); }
