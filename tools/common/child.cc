// Child processes by fork and exec.
#include "common/child.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace pccl::tools {

namespace {

[[noreturn]] void throw_errno(const char *what) { throw std::system_error(errno, std::generic_category(), what); }

struct Pipe {
    int ends[2] = {-1, -1};
    void open() {
        if (::pipe2(ends, O_CLOEXEC) != 0) throw_errno("pipe");
    }
};

void close_fd(int &fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
}

}  // namespace

Child::Child(Child &&other) noexcept { *this = std::move(other); }

Child &Child::operator=(Child &&other) noexcept {
    if (this != &other) {
        release();
        pid_ = std::exchange(other.pid_, -1);
        output_ = std::exchange(other.output_, -1);
        input_ = std::exchange(other.input_, -1);
        status_ = std::exchange(other.status_, std::nullopt);
    }
    return *this;
}

Child::~Child() { release(); }

void Child::release() {
    if (pid_ > 0 && !status_) {
        ::kill(pid_, SIGKILL);
        wait();
    }
    close_fd(output_);
    close_fd(input_);
    pid_ = -1;
    status_.reset();
}

Child Child::spawn(const std::vector<std::string> &argv, const SpawnOptions &options) {
    Child child;
    Pipe out;
    Pipe in;
    if (options.capture_stdout) out.open();
    if (options.pipe_stdin) in.open();
    std::vector<char *> arguments;
    for (const std::string &argument : argv)
        arguments.push_back(const_cast<char *>(argument.c_str()));
    arguments.push_back(nullptr);
    const pid_t parent = ::getpid();
    child.pid_ = ::fork();
    if (child.pid_ < 0) throw_errno("fork");
    if (child.pid_ == 0) {
        // Only async-signal-safe calls from here to exec.
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(127);
        if (options.capture_stdout) ::dup2(out.ends[1], STDOUT_FILENO);
        if (options.pipe_stdin) ::dup2(in.ends[0], STDIN_FILENO);
        if (!options.stderr_file.empty()) {
            const int file = ::open(options.stderr_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            if (file >= 0) ::dup2(file, STDERR_FILENO);
        }
        ::execv(arguments[0], arguments.data());
        ::_exit(127);
    }
    close_fd(out.ends[1]);
    close_fd(in.ends[0]);
    child.output_ = out.ends[0];
    child.input_ = in.ends[1];
    return child;
}

void Child::close_input() { close_fd(input_); }

bool Child::running() { return pid_ > 0 && !wait(std::chrono::milliseconds(0)); }

void Child::signal(int number) {
    if (pid_ > 0 && !status_) ::kill(pid_, number);
}

std::optional<int> Child::wait(std::chrono::milliseconds limit) {
    if (status_ || pid_ <= 0) return status_;
    if (limit.count() > 0) {
        // A descriptor of the process becomes readable when the process ends, without polling or a signal handler.
        const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
        if (handle >= 0) {
            pollfd entry{handle, POLLIN, 0};
            const auto end = std::chrono::steady_clock::now() + limit;
            while (true) {
                const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
                if (::poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0) >= 0 || errno != EINTR) break;
            }
            ::close(handle);
        }
    }
    int status = 0;
    pid_t reaped = 0;
    do {
        reaped = ::waitpid(pid_, &status, limit.count() < 0 ? 0 : WNOHANG);
    } while (reaped < 0 && errno == EINTR);
    if (reaped == pid_) status_ = status;
    return status_;
}

std::string describe_status(int wait_status) {
    if (WIFEXITED(wait_status)) return "exited with status " + std::to_string(WEXITSTATUS(wait_status));
    if (WIFSIGNALED(wait_status)) {
        const int number = WTERMSIG(wait_status);
        return "was killed by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
    }
    return "changed state";
}

std::string self_path() {
    std::string path(4096, '\0');
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    if (length < 0) throw_errno("/proc/self/exe");
    path.resize(static_cast<std::size_t>(length));
    return path;
}

}  // namespace pccl::tools
