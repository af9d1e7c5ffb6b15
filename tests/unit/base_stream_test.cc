// A stream over a socket pair: each outcome of a read and a write is a value, and no call waits.
#include "base/stream.h"

#include <array>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/descriptors.h"

namespace pccl {
namespace {

class StreamPair : public ::testing::Test {
protected:
    StreamPair() {
        std::array<int, 2> pair{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair.data()), 0);
        here_fd = Fd(pair[0]);
        there_fd = Fd(pair[1]);
        here = Stream(pair[0]);
        there = Stream(pair[1]);
    }
    static std::vector<std::byte> pattern(std::size_t bytes) {
        std::vector<std::byte> data(bytes);
        for (std::size_t i = 0; i < bytes; ++i)
            data[i] = static_cast<std::byte>(i * 7);
        return data;
    }

    Fd here_fd, there_fd;
    Stream here, there;
    std::array<std::byte, 64> buffer{};
};

TEST_F(StreamPair, ReadWithoutDataWouldBlock) {
    const StreamResult result = here.read(buffer);
    EXPECT_EQ(result.state, StreamResult::State::would_block);
    EXPECT_EQ(result.bytes, 0u);
    EXPECT_EQ(result.error, 0);
}

TEST_F(StreamPair, VectorsAreWrittenAndReadInOrder) {
    const auto sent = pattern(24);
    const std::array<iovec, 3> from{iovec{const_cast<std::byte *>(sent.data()), 8}, iovec{nullptr, 0},
                                    iovec{const_cast<std::byte *>(sent.data()) + 8, 16}};
    const StreamResult written = here.writev(from);
    ASSERT_TRUE(written.done());
    EXPECT_EQ(written.bytes, 24u);
    std::array<std::byte, 10> first{};
    std::array<std::byte, 30> second{};
    const std::array<iovec, 2> into{iovec{first.data(), first.size()}, iovec{second.data(), second.size()}};
    const StreamResult read = there.readv(into);
    ASSERT_TRUE(read.done());
    EXPECT_EQ(read.bytes, 24u);
    EXPECT_EQ(std::memcmp(first.data(), sent.data(), 10), 0);
    EXPECT_EQ(std::memcmp(second.data(), sent.data() + 10, 14), 0);
}

TEST_F(StreamPair, WritesBecomePartialAndThenWouldBlock) {
    const auto data = pattern(std::size_t{16} << 20);
    std::size_t sent = 0;
    StreamResult result;
    while ((result = here.write(std::span(data).subspan(sent))).done()) {
        ASSERT_LE(result.bytes, data.size() - sent);
        sent += result.bytes;
        ASSERT_LT(sent, data.size()) << "the socket takes everything: this test needs more data";
    }
    EXPECT_EQ(result.state, StreamResult::State::would_block);

    std::vector<std::byte> received;
    std::vector<std::byte> part(std::size_t{1} << 20);
    while (received.size() < data.size()) {
        if (const StreamResult got = there.read(part); got.done()) {
            received.insert(received.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(got.bytes));
        } else {
            ASSERT_EQ(got.state, StreamResult::State::would_block);
        }
        if (sent < data.size()) {
            if (const StreamResult put = here.write(std::span(data).subspan(sent)); put.done()) sent += put.bytes;
        }
    }
    EXPECT_TRUE(received == data);
}

TEST_F(StreamPair, EndOfWritingIsReadAfterTheData) {
    ASSERT_TRUE(here.write(pattern(5)).done());
    here.end_writing();
    EXPECT_EQ(there.read(buffer).bytes, 5u);
    EXPECT_EQ(there.read(buffer).state, StreamResult::State::closed);
    ASSERT_TRUE(there.write(pattern(3)).done()) << "the other direction is still open";
    EXPECT_EQ(here.read(buffer).bytes, 3u);
}

TEST_F(StreamPair, WriteToAClosedSocketFailsWithoutSignal) {
    there_fd.reset();
    const StreamResult result = here.write(pattern(1));
    EXPECT_EQ(result.state, StreamResult::State::failed);
    EXPECT_EQ(result.error, EPIPE);
}

TEST_F(StreamPair, UnmappedMemoryFailsAndTheStreamContinues) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void *const memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    ASSERT_EQ(::munmap(memory, page), 0);
    ASSERT_TRUE(here.write(pattern(8)).done());
    const StreamResult result = there.read({static_cast<std::byte *>(memory), page});
    EXPECT_EQ(result.state, StreamResult::State::failed);
    EXPECT_EQ(result.error, EFAULT);
    ASSERT_TRUE(here.write(pattern(8)).done());
    EXPECT_TRUE(there.read(buffer).done());
}

/// Listens on, or connects to, a port of 127.0.0.1.
sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

TEST(StreamHandshake, AcceptsAConnectionToAnotherSocket) {
    const Fd listener = open_stream(false);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr *>(&address), size), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr *>(&address), &size), 0);
    const Fd dialled(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(dialled.get(), reinterpret_cast<const sockaddr *>(&address), size), 0);
    EXPECT_EQ(Stream(dialled.get()).handshake(), 0);
}

TEST(StreamHandshake, RefusesAConnectionToItself) {
    const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), size), 0);
    ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr *>(&address), &size), 0);
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), size), 0);
    EXPECT_EQ(Stream(socket.get()).handshake(), ECONNREFUSED);
}

}  // namespace
}  // namespace pccl
