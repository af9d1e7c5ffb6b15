// See tcp_health.h.
#include "peer/tcp_health.h"

#include <linux/tcp.h>  // the C library's tcp_info lacks the times
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

namespace pccl::peer {

std::optional<TcpHealth> tcp_health(int socket) {
    tcp_info info{};
    socklen_t length = sizeof info;
    if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return std::nullopt;
    TcpHealth health;
    health.since_ack = std::chrono::milliseconds(info.tcpi_last_ack_recv);
    health.awaits_ack = info.tcpi_unacked > 0 || info.tcpi_probes > 1;  // one probe may just have been sent
    health.round_trip = std::chrono::microseconds(info.tcpi_rtt);
    health.retransmissions = std::max<std::uint32_t>(info.tcpi_retransmits, info.tcpi_backoff);
    health.retransmitted = info.tcpi_total_retrans;
    health.busy = std::chrono::microseconds(info.tcpi_busy_time);
    health.receiver_limited = std::chrono::microseconds(info.tcpi_rwnd_limited);
    health.buffer_limited = std::chrono::microseconds(info.tcpi_sndbuf_limited);
    health.bytes_per_s = info.tcpi_delivery_rate;
    health.delivered = info.tcpi_bytes_acked + std::uint64_t{info.tcpi_sacked} * info.tcpi_snd_mss;
    health.resent = info.tcpi_bytes_retrans;
    return health;
}

void give_up_after(int socket, Duration limit) {
    const auto ms = static_cast<unsigned>(std::clamp<Duration::rep>(limit.count() / 1000, 1, 24L * 3600 * 1000));
    ::setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

}  // namespace pccl::peer
