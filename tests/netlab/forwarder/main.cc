// netlab-forwarder creates the hosts of a lab and carries packets between them until its standard input ends. Then it kills the
// processes that still run on them. It has one thread. `netlab` starts and controls it.
#include "forwarder/control.h"
#include "forwarder/host.h"
#include "forwarder/network.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <getopt.h>
#include <malloc.h>
#include <map>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

namespace netlab {

namespace {

constexpr int kMostHosts = 64;
constexpr int kReadsPerTurn = 16;                // packets read from one host before the next host
constexpr Nanoseconds kSpin = 30'000;            // about the time that sleeping and waking up take
constexpr std::uint32_t kKeepWhole = 32 * 1024;  // packets above it stay in the buffer they were read into
constexpr std::size_t kLongestLine = 4096;

struct Options {
    int hosts = 2;
    int mtu = 1500;
    std::uint64_t seed = 1;
    std::string socket;
};

Nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

class Forwarder {
public:
    explicit Forwarder(const Options &options)
        : options_(options), network_(options.hosts, options.seed), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        for (int i = 0; i < options.hosts; ++i)
            hosts_.push_back(make_host(i + 1, options.mtu));
        for (int i = 0; i < options.hosts; ++i)
            watch(hosts_[static_cast<std::size_t>(i)].device.get());
        sigset_t ends;
        sigemptyset(&ends);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP})
            sigaddset(&ends, signal);
        ::sigprocmask(SIG_BLOCK, &ends, nullptr);
        signals_ = Fd(::signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
        watch(signals_.get());
        watch(STDIN_FILENO);
        if (!options.socket.empty()) listen();
    }

    ~Forwarder() {
        kill_processes_in(hosts_);
        if (listener_) ::unlink(options_.socket.c_str());
    }

    /// Prints `ready`, the process id, and the descriptors of the namespaces, which programs enter through /proc.
    void announce() const {
        std::printf("ready %d", static_cast<int>(::getpid()));
        for (const Host &host : hosts_)
            std::printf(" %d", host.space.get());
        std::printf("\n");
        std::fflush(stdout);
    }

    void run() {
        while (!stop_) {
            network_.advance(now(), [this](int host, const Packet &packet) { deliver(host, packet); });
            epoll_event events[kMostHosts + 8];
            const int count = wait(events, kMostHosts + 8);
            for (int i = 0; i < count; ++i)
                handle(events[i].data.fd);
        }
    }

private:
    Options options_;
    Network network_;
    Fd epoll_;
    std::vector<Host> hosts_;
    Fd signals_;
    Fd listener_;
    std::map<int, Fd> clients_;
    std::map<int, std::string> lines_;  // the received part of a line
    std::unique_ptr<std::uint8_t[]> buffer_;
    bool stop_ = false;

    void watch(int fd) const {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        // epoll cannot wait for a standard input that is a file or /dev/null. No command arrives from it then.
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0 && fd != STDIN_FILENO)
            throw std::runtime_error(std::string("epoll: ") + std::strerror(errno));
    }

    void listen() {
        listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (options_.socket.size() >= sizeof address.sun_path) throw std::runtime_error("the path of the socket is too long");
        std::memcpy(address.sun_path, options_.socket.data(), options_.socket.size());
        if (::bind(listener_.get(), reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 ||
            ::listen(listener_.get(), 16) != 0)
            throw std::runtime_error(options_.socket + ": " + std::strerror(errno));
        watch(listener_.get());
    }

    int wait(epoll_event *events, int most) const {
        const Nanoseconds next = network_.next();
        if (next < 0) return ::epoll_wait(epoll_.get(), events, most, -1);
        const Nanoseconds left = next - now();
        if (left < kSpin) return ::epoll_wait(epoll_.get(), events, most, 0);
        const Nanoseconds sleep = left - kSpin / 2;
        const timespec time{static_cast<time_t>(sleep / kSecond), static_cast<long>(sleep % kSecond)};
        return ::epoll_pwait2(epoll_.get(), events, most, &time, nullptr);
    }

    void handle(int fd) {
        if (fd == signals_.get()) {
            stop_ = true;
        } else if (listener_ && fd == listener_.get()) {
            Fd client(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!client) return;
            watch(client.get());
            clients_.insert_or_assign(client.get(), std::move(client));
        } else if (fd == STDIN_FILENO || clients_.contains(fd)) {
            read_commands(fd);
        } else {
            for (std::size_t i = 0; i < hosts_.size(); ++i) {
                if (hosts_[i].device.get() == fd) read_packets(static_cast<int>(i), fd);
            }
        }
    }

    void read_packets(int host, int fd) {
        for (int i = 0; i < kReadsPerTurn; ++i) {
            if (!buffer_) buffer_ = std::make_unique_for_overwrite<std::uint8_t[]>(kLargestPacket);
            const ssize_t got = ::read(fd, buffer_.get(), kLargestPacket);
            if (got <= 0) return;
            Packet packet;
            packet.size = static_cast<std::uint32_t>(got);
            if (packet.size >= kKeepWhole) {
                packet.data = std::move(buffer_);
            } else {
                packet.data = std::make_unique_for_overwrite<std::uint8_t[]>(packet.size);
                std::memcpy(packet.data.get(), buffer_.get(), packet.size);
            }
            network_.send(now(), host, std::move(packet));
        }
    }

    void deliver(int host, const Packet &packet) const {
        // The device is going down or memory is short: the packet is lost, as on any network.
        static_cast<void>(!::write(hosts_[static_cast<std::size_t>(host)].device.get(), packet.data.get(), packet.size));
    }

    void read_commands(int fd) {
        char bytes[1024];
        const ssize_t got = ::read(fd, bytes, sizeof bytes);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        std::string &text = lines_[fd];
        if (got <= 0 || text.size() + static_cast<std::size_t>(got) > kLongestLine) {
            stop_ |= fd == STDIN_FILENO;
            lines_.erase(fd);
            clients_.erase(fd);
            return;
        }
        text.append(bytes, static_cast<std::size_t>(got));
        for (std::size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
            const std::string answer = execute(network_, std::string_view(text).substr(0, end), stop_);
            static_cast<void>(!::write(fd == STDIN_FILENO ? STDOUT_FILENO : fd, answer.data(), answer.size()));
        }
    }
};

Options parse(int argc, char **argv) {
    Options options;
    const option names[] = {{"hosts", required_argument, nullptr, 'n'}, {"mtu", required_argument, nullptr, 'm'},
                            {"seed", required_argument, nullptr, 's'},  {"socket", required_argument, nullptr, 'u'},
                            {"help", no_argument, nullptr, 'h'},        {}};
    for (int key; (key = ::getopt_long(argc, argv, "h", names, nullptr)) != -1;) {
        switch (key) {
        case 'n': options.hosts = std::atoi(optarg); break;
        case 'm': options.mtu = std::atoi(optarg); break;
        case 's': options.seed = std::strtoull(optarg, nullptr, 10); break;
        case 'u': options.socket = optarg; break;
        default:
            std::printf(
                "netlab-forwarder [--hosts N] [--mtu BYTES] [--seed S] [--socket PATH]\n"
                "Makes N network namespaces, 10.77.0.1 to 10.77.0.N, and carries packets between them. Needs root and\n"
                "/dev/net/tun. Prints `ready PID FD...`: enter the i-th with nsenter --net=/proc/PID/fd/FD. Reads commands\n"
                "from standard input, whose end is the end of the lab, and from connections to the UNIX socket PATH.\n%s",
                kCommands);
            std::exit(key == 'h' ? 0 : 64);
        }
    }
    if (options.hosts < 1 || options.hosts > kMostHosts || options.mtu < 576 || options.mtu > 65535) {
        std::fprintf(stderr, "netlab-forwarder: invalid options; choose 1 to %d hosts and an MTU of 576 to 65535\n", kMostHosts);
        std::exit(64);
    }
    return options;
}

}  // namespace

}  // namespace netlab

int main(int argc, char **argv) {
    const netlab::Options options = netlab::parse(argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    ::prctl(PR_SET_TIMERSLACK, 1);
    ::mallopt(M_TRIM_THRESHOLD,
              1 << 30);  // packets are allocated and freed all the time; returned memory would be faulted in again
    ::setpriority(PRIO_PROCESS, 0, -15);  // a forwarder that waits for a processor would add delay
    try {
        netlab::Forwarder forwarder(options);
        forwarder.announce();
        forwarder.run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "netlab-forwarder: %s\n", error.what());
        return 1;
    }
    return 0;
}
