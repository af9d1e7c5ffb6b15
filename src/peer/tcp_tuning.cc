// See tcp_tuning.h.
#include "peer/tcp_tuning.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptors.h"
#include "base/read_file.h"

namespace pccl::peer {

namespace {

/// Bytes in a send buffer that may wait for the congestion window (TCP_NOTSENT_LOWAT).
constexpr int kUnsent = 256 << 10;

/// Size of each buffer of a connection inside one machine. The kernel doubles it for its own needs.
constexpr int kInsideMachine = 1 << 20;

bool set_congestion_control(int socket, const std::string &name) {
    return ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

/// The number with index `which` in a file of kernel settings; 0 if it cannot be read.
long setting(const char *path, std::size_t which) {
    const auto numbers = numbers_in(path);
    return which < numbers.size() ? numbers[which] : 0;
}

/// The largest send buffer that can be set, if it exceeds what the kernel's autotuning reaches; otherwise 0.
int send_buffer() {
    static const int size = [] {
        const long asked = setting("/proc/sys/net/core/wmem_max", 0);  // the kernel doubles it
        const long tuned = setting("/proc/sys/net/ipv4/tcp_wmem", 2);
        return 2 * asked > tuned ? static_cast<int>(std::min(asked, 64L << 20)) : 0;
    }();
    return size;
}

}  // namespace

Status check_congestion_control(const std::string &name) {
    Fd probe = open_stream(true);
    if (!probe) probe = open_stream(false);
    if (!probe || set_congestion_control(probe.get(), name)) return {};
    const int error = errno;
    std::string offered = read_file("/proc/sys/net/ipv4/tcp_available_congestion_control");
    offered.resize(std::min(offered.find('\n'), offered.size()));
    return Error{pcclInvalidArgument, "congestion control '" + name + "' is not available on this system (" +
                                          std::strerror(error) + ")" +
                                          (offered.empty() ? "" : "; this system offers: " + offered)};
}

void tune_before_connecting(int socket, const std::string &congestion_control) {
    if (!congestion_control.empty())
        (void)set_congestion_control(socket, congestion_control);
    else if (!set_congestion_control(socket, "cubic"))
        (void)set_congestion_control(socket, "reno");
}

Duration tune_connected(int socket, const std::string &congestion_control) {
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return {};
    const Duration round_trip = std::chrono::microseconds(info.tcpi_rtt);
    if (round_trip < kLongPath) return round_trip;
    if (congestion_control.empty()) (void)set_congestion_control(socket, "bbr");
    ::setsockopt(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsent, sizeof kUnsent);
    const int bytes = send_buffer();
    if (bytes > 0) ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return round_trip;
}

void tune_inside_machine(int socket) {
    ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kInsideMachine, sizeof kInsideMachine);
    ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &kInsideMachine, sizeof kInsideMachine);
}

bool follows_rate(int socket) {
    char name[16] = {};
    socklen_t length = sizeof name - 1;
    return ::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 && std::string_view(name).starts_with("bbr");
}

std::uint64_t unacknowledged_bytes(int socket) {
    int bytes = 0;
    return ::ioctl(socket, SIOCOUTQ, &bytes) == 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

void limit_rate(int socket, std::uint64_t bytes_per_s) {
    const auto rate = static_cast<unsigned long>(bytes_per_s);
    ::setsockopt(socket, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
}

}  // namespace pccl::peer
