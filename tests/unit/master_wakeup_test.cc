// The order of clock and sockets in the master's loop.
#include "master/wakeup.h"

#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace pccl::master {
namespace {

TEST(Wakeup, ReadsSocketsBeforeAPassedDeadline) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    uv_loop_t loop;
    ASSERT_EQ(uv_loop_init(&loop), 0);
    std::string order;
    struct Reader {
        uv_poll_t poll;
        int fd;
        std::string *order;
    } reader{{}, ends[0], &order};
    ASSERT_EQ(uv_poll_init(&loop, &reader.poll, ends[0]), 0);
    reader.poll.data = &reader;
    uv_poll_start(&reader.poll, UV_READABLE, [](uv_poll_t *poll, int, int) {
        auto &self = *static_cast<Reader *>(poll->data);
        char byte = 0;
        ASSERT_EQ(::read(self.fd, &byte, 1), 1);
        *self.order += byte;
    });

    Time deadline = monotonic_now() + std::chrono::milliseconds(20);
    int times = 0;
    Wakeup *self = nullptr;
    Wakeup wakeup(loop, [&] {
        if (self->due(deadline)) {
            order += 'T';
            if (++times == 2) return uv_stop(&loop);
            deadline = monotonic_now() + std::chrono::milliseconds(20);
            self->arm(monotonic_now(), deadline);
            // Models a stopped process: the deadline passes, and then bytes arrive.
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            ASSERT_EQ(::write(ends[1], "b", 1), 1);
            return;
        }
        self->arm(monotonic_now(), deadline);
    });
    self = &wakeup;
    wakeup.arm(monotonic_now(), deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ASSERT_EQ(::write(ends[1], "a", 1), 1);
    uv_run(&loop, UV_RUN_DEFAULT);
    EXPECT_EQ(order, "aTbT");

    wakeup.close();
    uv_close(reinterpret_cast<uv_handle_t *>(&reader.poll), nullptr);
    uv_run(&loop, UV_RUN_NOWAIT);
    EXPECT_EQ(uv_loop_close(&loop), 0);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(Wakeup, FiresAtItsDeadlineWithoutSockets) {
    uv_loop_t loop;
    ASSERT_EQ(uv_loop_init(&loop), 0);
    const Time begin = monotonic_now();
    const Time deadline = begin + std::chrono::milliseconds(30);
    int turns = 0;
    Wakeup *self = nullptr;
    Wakeup wakeup(loop, [&] {
        ++turns;
        if (self->due(deadline)) return uv_stop(&loop);
        self->arm(monotonic_now(), deadline);
    });
    self = &wakeup;
    wakeup.arm(begin, deadline);
    uv_run(&loop, UV_RUN_DEFAULT);
    EXPECT_GE(monotonic_now(), deadline);
    EXPECT_LE(turns, 6) << "it waits and does not spin";
    wakeup.close();
    uv_run(&loop, UV_RUN_NOWAIT);
    EXPECT_EQ(uv_loop_close(&loop), 0);
}

}  // namespace
}  // namespace pccl::master
