// A child process: starts it by fork and exec, waits for it, sends it signals and reaps it. The child ends with the parent
// (PR_SET_PDEATHSIG), so that an interrupted program leaves no child running. The kernel sends the signal when the starting
// thread ends, so this thread must live as long as the child.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace pccl::tools {

struct SpawnOptions {
    bool capture_stdout = false;  ///< Child::output() is then the read end of a pipe
    bool pipe_stdin = false;      ///< Child::input() is then the write end of a pipe
    std::string stderr_file;      ///< file to append to; empty: the parent's standard error
};

/// Move-only; the destructor kills and reaps a child that still runs. Not thread-safe.
class Child {
public:
    Child() = default;
    Child(Child &&other) noexcept;
    Child &operator=(Child &&other) noexcept;
    Child(const Child &) = delete;
    Child &operator=(const Child &) = delete;
    ~Child();

    /// Runs argv[0] (a path) with argv. Throws std::system_error if the system cannot start a process.
    static Child spawn(const std::vector<std::string> &argv, const SpawnOptions &options = {});

    pid_t pid() const { return pid_; }
    int output() const { return output_; }  ///< -1 if not captured
    int input() const { return input_; }    ///< -1 if not piped
    void close_input();

    bool running();  ///< reaps it if it has ended
    void signal(int number);
    /// Waits for this time; -1 waits without a limit. Returns nullopt if the child still runs.
    std::optional<int> wait(std::chrono::milliseconds limit = std::chrono::milliseconds(-1));
    /// The wait status, once reaped.
    std::optional<int> status() const { return status_; }

private:
    pid_t pid_ = -1;
    int output_ = -1;
    int input_ = -1;
    std::optional<int> status_;

    void release();
};

/// "exited with status 3", "was killed by signal 9 (Killed)".
std::string describe_status(int wait_status);

/// The path of the running program.
std::string self_path();

}  // namespace pccl::tools
