#include "forwarder/host.h"

#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace netlab {

namespace {

constexpr int kRing = 20000;  // packets that the device holds; large, so that the forwarder's own queues are the bottleneck
constexpr const char *kDevice = "wan0";

void require(bool ok, const std::string &what) {
    if (!ok) throw std::system_error(errno, std::generic_category(), what);
}

ifreq request_for(const char *device) {
    ifreq request{};
    std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    return request;
}

void set_address(int socket, unsigned long what, const std::string &address) {
    ifreq request = request_for(kDevice);
    auto *const in = reinterpret_cast<sockaddr_in *>(&request.ifr_addr);
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address.c_str(), &in->sin_addr);
    require(::ioctl(socket, what, &request) == 0, "setting an address of " + std::string(kDevice));
}

void bring_up(int socket, const char *device) {
    ifreq request = request_for(device);
    require(::ioctl(socket, SIOCGIFFLAGS, &request) == 0, std::string("reading the flags of ") + device);
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    require(::ioctl(socket, SIOCSIFFLAGS, &request) == 0, std::string("bringing up ") + device);
}

/// Disables IPv6: only IPv4 is carried, and each host would send neighbour discovery.
void no_ipv6() {
    const Fd file(::open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC));
    if (file) static_cast<void>(!::write(file.get(), "1", 1));
}

Fd open_device(int mtu, const std::string &address) {
    Fd device(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    require(static_cast<bool>(device), "opening /dev/net/tun");
    ifreq request = request_for(kDevice);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    require(::ioctl(device.get(), TUNSETIFF, &request) == 0, "making a TUN device");
    require(::ioctl(device.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) == 0, "segmentation offload of the TUN device");

    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    require(static_cast<bool>(socket), "a socket");
    request = request_for(kDevice);
    request.ifr_mtu = mtu;
    require(::ioctl(socket.get(), SIOCSIFMTU, &request) == 0, "setting the MTU");
    request = request_for(kDevice);
    request.ifr_qlen = kRing;
    require(::ioctl(socket.get(), SIOCSIFTXQLEN, &request) == 0, "setting the length of the device's queue");
    set_address(socket.get(), SIOCSIFADDR, address);
    set_address(socket.get(), SIOCSIFNETMASK, "255.255.255.0");
    bring_up(socket.get(), "lo");
    bring_up(socket.get(), kDevice);
    return device;
}

}  // namespace

Fd::~Fd() {
    if (fd_ >= 0) ::close(fd_);
}

Host make_host(int number, int mtu) {
    const Fd home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    require(static_cast<bool>(home), "opening our own network namespace");
    require(::unshare(CLONE_NEWNET) == 0, "making a network namespace");
    Host host;
    host.address = "10.77.0." + std::to_string(number);
    host.space = Fd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    require(static_cast<bool>(host.space), "opening a network namespace");
    no_ipv6();
    host.device = open_device(mtu, host.address);
    require(::setns(home.get(), CLONE_NEWNET) == 0, "returning to our own network namespace");
    return host;
}

void kill_processes_in(const std::vector<Host> &hosts) {
    std::vector<ino_t> spaces;
    for (const Host &host : hosts) {
        struct stat status {};
        if (::fstat(host.space.get(), &status) == 0) spaces.push_back(status.st_ino);
    }
    DIR *const processes = ::opendir("/proc");
    if (processes == nullptr) return;
    while (const dirent *entry = ::readdir(processes)) {
        pid_t pid = 0;
        const char *const end = entry->d_name + std::strlen(entry->d_name);
        if (std::from_chars(entry->d_name, end, pid).ptr != end || pid == ::getpid()) continue;
        struct stat status {};
        if (::stat(("/proc/" + std::string(entry->d_name) + "/ns/net").c_str(), &status) != 0) continue;
        for (const ino_t space : spaces) {
            if (status.st_ino == space) ::kill(pid, SIGKILL);
        }
    }
    ::closedir(processes);
}

}  // namespace netlab
