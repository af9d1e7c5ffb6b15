// See descriptors.h.
#include "base/descriptors.h"

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

namespace pccl {
namespace {

std::atomic<int> generation{0};

/// The sockets that were created here, by number, each with its inode. A socket is not removed when it is closed: if the number
/// was reused by then, the inode differs.
struct Created {
    std::mutex mutex;  ///< held while a socket is created and recorded, so that no fork happens in between
    std::map<int, ino_t> sockets;
};

/// Never destroyed, because threads may create sockets while the process exits.
Created &created() {
    static Created &instance = *new Created;
    return instance;
}

ino_t inode_of(int fd) {
    struct stat status {};
    return ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

/// Runs in the child of a fork, on its only thread. Must not allocate memory.
void close_inherited() {
    ++generation;
    for (const auto &[fd, inode] : created().sockets) {
        if (inode != 0 && inode_of(fd) == inode) ::close(fd);
    }
    created().mutex.unlock();
}

void watch_forks() {
    static const int done = ::pthread_atfork([] { created().mutex.lock(); }, [] { created().mutex.unlock(); }, close_inherited);
    static_cast<void>(done);
}

/// Records a socket. The mutex is held.
Fd recorded(int fd) {
    Fd socket(fd);
    if (socket) created().sockets[fd] = inode_of(fd);
    return socket;
}

}  // namespace

Fd open_stream(bool v6) {
    watch_forks();
    const std::lock_guard lock(created().mutex);
    return recorded(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Fd accept_stream(int listener, sockaddr *from, socklen_t *size) {
    watch_forks();
    const std::lock_guard lock(created().mutex);
    return recorded(::accept4(listener, from, size, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

void reserve_standard_descriptors() {
    for (int fd = 0; fd <= 2; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
        // open() returns the lowest free number, which is this one. Programs that are started inherit it, as they would a
        // terminal.
        const int opened = ::open("/dev/null", O_RDWR);
        if (opened > 2) ::close(opened);
    }
}

int fork_generation() {
    watch_forks();
    return generation.load(std::memory_order_relaxed);
}

}  // namespace pccl
