#include "base/descriptors.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/wait.h>

namespace pccl {
namespace {

/// The exit status of a fork that runs `body`.
template <class F> int in_a_fork(F body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Fd listener() {
    Fd socket = open_stream(false);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr *>(&any), sizeof any), 0);
    EXPECT_EQ(::listen(socket.get(), 8), 0);
    return socket;
}

/// A blocking connection to `listener`.
Fd connected_to(const Fd &listener) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr *>(&address), &size), 0);
    Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
    return socket;
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Descriptors, SocketsAreCloseOnExec) {
    const Fd server = listener();
    const Fd client = connected_to(server);
    const Fd accepted = accept_stream(server.get());
    ASSERT_TRUE(accepted);
    for (const Fd *socket : {&server, &accepted}) {
        EXPECT_EQ(::fcntl(socket->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        EXPECT_EQ(::fcntl(socket->get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    }
}

TEST(Descriptors, ForkHoldsNoSocket) {
    const Fd server = listener();
    const Fd client = connected_to(server);
    const Fd accepted = accept_stream(server.get());
    EXPECT_EQ(in_a_fork([&] { return (is_open(server.get()) ? 1 : 0) | (is_open(accepted.get()) ? 2 : 0); }), 0);
    EXPECT_TRUE(is_open(server.get()));
    EXPECT_TRUE(is_open(accepted.get()));
}

TEST(Descriptors, OtherEndSeesTheEndWhileAForkLives) {
    const Fd server = listener();
    const Fd client = connected_to(server);
    Fd accepted = accept_stream(server.get());
    int hold[2], ready[2];
    ASSERT_EQ(::pipe2(hold, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(hold[1]);
        char byte = 0;
        static_cast<void>(!::write(ready[1], &byte, 1));
        static_cast<void>(!::read(hold[0], &byte, 1));  // until the parent closes the pipe
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    accepted.reset();
    EXPECT_EQ(::read(client.get(), &byte, 1), 0) << "the fork keeps the connection open";
    ::close(hold[1]);
    ::waitpid(child, nullptr, 0);
    for (const int fd : {hold[0], ready[0], ready[1]})
        ::close(fd);
}

TEST(Descriptors, ForkKeepsAFileWithAReusedSocketNumber) {
    const int number = open_stream(false).get();  // closed again
    ASSERT_FALSE(is_open(number));
    const Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const Fd other(::fcntl(file.get(), F_DUPFD_CLOEXEC, number));
    const Fd &same = file.get() == number ? file : other;
    ASSERT_EQ(same.get(), number);
    EXPECT_EQ(in_a_fork([&] { return is_open(number) ? 0 : 1; }), 0);
}

TEST(Descriptors, ForkHasAnotherGeneration) {
    const int before = fork_generation();
    EXPECT_EQ(in_a_fork([&] { return fork_generation() == before ? 1 : 0; }), 0);
    EXPECT_EQ(fork_generation(), before);
}

TEST(Descriptors, ClosedStandardDescriptorsAreReserved) {
    EXPECT_EQ(in_a_fork([] {
                  ::close(0);
                  ::close(2);
                  reserve_standard_descriptors();
                  return is_open(0) && is_open(2) && open_stream(false).get() > 2 ? 0 : 1;
              }),
              0);
}

}  // namespace
}  // namespace pccl
