// Connections to this host itself. The tests with a narrow range of ports need a network namespace, and are skipped without.
#include "base/outgoing.h"

#include <cerrno>
#include <cstring>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/descriptors.h"
#include "base/interfaces.h"
#include "base/port_holder.h"

namespace pccl {
namespace {

constexpr int kSkipped = 77;

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

bool bind_to(const Fd &socket, std::uint16_t port) {
    const auto address = loopback(port);
    return ::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0;
}

/// Waits for the outcome, because the socket is non-blocking.
bool connect_to(const Fd &socket, std::uint16_t port) {
    const auto address = loopback(port);
    ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) & ~O_NONBLOCK);
    return ::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0;
}

std::uint16_t port_of(const Fd &socket) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(socket.get(), reinterpret_cast<sockaddr *>(&address), &size);
    return ntohs(address.sin_port);
}

/// A socket that has connected to itself.
Fd self_connected(std::uint16_t &port) {
    Fd socket = open_stream(false);
    EXPECT_TRUE(bind_to(socket, 0));
    port = port_of(socket);
    EXPECT_TRUE(connect_to(socket, port));
    return socket;
}

/// Runs `body` in a fork that has its own network namespace with few ports for outgoing connections.
/// Returns the exit status, or kSkipped if network namespaces are not permitted.
template <class F> int with_few_ports(const char *range, F body) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (::unshare(CLONE_NEWNET) != 0) ::_exit(kSkipped);
        const Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq lo{};
        std::strcpy(lo.ifr_name, "lo");
        lo.ifr_flags = IFF_UP;
        const Fd setting(::open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC));
        const bool set = ::ioctl(control.get(), SIOCSIFFLAGS, &lo) == 0 && ::write(setting.get(), range, std::strlen(range)) > 0;
        ::_exit(set ? body() : kSkipped);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Outgoing, ConnectionToItselfIsDetected) {
    std::uint16_t port = 0;
    EXPECT_TRUE(is_connected_to_itself(self_connected(port).get()));
    const Fd listener = open_stream(false);
    ASSERT_TRUE(bind_to(listener, 0));
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const Fd other = open_stream(false);
    ASSERT_TRUE(connect_to(other, port_of(listener)));
    EXPECT_FALSE(is_connected_to_itself(other.get()));
}

TEST(Outgoing, ResetLeavesNoTimeWait) {
    std::uint16_t port = 0;
    {
        const Fd socket = self_connected(port);
        reset_on_close(socket.get());
    }
    const Fd next = open_stream(false);
    EXPECT_TRUE(bind_to(next, port)) << std::strerror(errno) << "; " << port_holder(port);
}

TEST(Outgoing, AttemptNeverUsesThePortOfItsTarget) {
    const int status = with_few_ports("40000 40003", [] {
        const SocketAddress target{*parse_ip("127.0.0.1"), 40000};
        for (int i = 0; i < 100; ++i) {
            Fd socket = open_stream(false);
            keep_off_target_port(socket, target);
            if (connect_to(socket, target.port) || errno != ECONNREFUSED) return 1;
        }
        return 0;
    });
    if (status == kSkipped) GTEST_SKIP() << "network namespaces are not permitted on this system";
    EXPECT_EQ(status, 0);
}

TEST(Outgoing, ConnectionLeavesItsPortToAListener) {
    const Fd listener = open_stream(false);
    ASSERT_TRUE(bind_to(listener, 0));
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    Fd socket = open_stream(false);
    keep_off_target_port(socket, {*parse_ip("127.0.0.1"), port_of(listener)});
    ASSERT_TRUE(connect_to(socket, port_of(listener)));
    const Fd server = open_stream(false);
    const int on = 1;
    ::setsockopt(server.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_TRUE(bind_to(server, port_of(socket))) << std::strerror(errno);
    EXPECT_EQ(::listen(server.get(), 1), 0) << std::strerror(errno);
}

TEST(Interfaces, LoopbackBelongsToThisHostAndOthersDoNot) {
    EXPECT_TRUE(is_of_this_host(*parse_ip("127.0.0.1")));
    EXPECT_TRUE(is_of_this_host(*parse_ip("127.1.2.3")));
    EXPECT_FALSE(is_of_this_host(*parse_ip("192.0.2.1")));
    EXPECT_FALSE(is_of_this_host(*parse_ip("2001:db8::7")));
    EXPECT_EQ(interface_of(*parse_ip("127.0.0.1")), ::if_nametoindex("lo"));
    EXPECT_EQ(zone_of_interface(::if_nametoindex("lo")), 0U);
}

TEST(PortHolder, NamesTheProcessThatListens) {
    const Fd listener = open_stream(false);
    ASSERT_TRUE(bind_to(listener, 0));
    EXPECT_EQ(port_holder(port_of(listener)), "");  // bound but not listening, so it is not in the kernel's list
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const std::string holder = port_holder(port_of(listener));
    EXPECT_NE(holder.find("process " + std::to_string(::getpid()) + " ("), std::string::npos) << holder;
    EXPECT_NE(holder.find("listens there"), std::string::npos) << holder;
}

TEST(PortHolder, NamesAConnectionToItselfAndItsTimeWait) {
    std::uint16_t port = 0;
    {
        const Fd socket = self_connected(port);
        const std::string holder = port_holder(port);
        EXPECT_NE(holder.find("to itself of process"), std::string::npos) << holder;
    }
    const std::string after = port_holder(port);
    EXPECT_NE(after.find("to itself in TIME_WAIT"), std::string::npos) << after;
}

}  // namespace
}  // namespace pccl
