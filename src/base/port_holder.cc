// See base/port_holder.h.
#include "base/port_holder.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <sstream>

#include <unistd.h>

#include "base/address.h"
#include "base/read_file.h"

namespace pccl {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kListens = 0x0a, kTimeWait = 0x06;

/// A line of /proc/net/tcp or tcp6.
struct Entry {
    SocketAddress local, remote;
    unsigned state = 0;
    unsigned long user = 0;
    std::string inode;
};

/// "0100007F:BC14": words of four bytes in the byte order of this machine, then the port.
std::optional<SocketAddress> parse_end(const std::string &text) {
    const auto colon = text.find(':');
    if (colon != 8 && colon != 32) return std::nullopt;
    ccoip_socket_address_t end{};
    unsigned port = 0;
    if (std::sscanf(text.c_str() + colon + 1, "%x", &port) != 1) return std::nullopt;
    end.port = static_cast<std::uint16_t>(port);
    if (colon == 32) end.inet.protocol = inetIPv6;
    std::uint8_t *octets = colon == 32 ? end.inet.ipv6.data : end.inet.ipv4.data;
    for (std::size_t word = 0; word < colon / 8; ++word) {
        unsigned value = 0;
        if (std::sscanf(text.substr(word * 8, 8).c_str(), "%x", &value) != 1) return std::nullopt;
        for (int i = 0; i < 4; ++i)
            *octets++ = static_cast<std::uint8_t>(value >> 8 * i);
    }
    return from_c(end);
}

std::optional<Entry> parse_entry(const std::string &line) {
    std::istringstream words(line);
    std::string number, local, remote, queues, timer, retransmits, timeout;
    Entry entry;
    if (!(words >> number >> local >> remote >> std::hex >> entry.state >> std::dec >> queues >> timer >> retransmits >>
          entry.user >> timeout >> entry.inode))
        return std::nullopt;
    const auto here = parse_end(local), there = parse_end(remote);
    if (!here || !there) return std::nullopt;
    entry.local = *here;
    entry.remote = *there;
    return entry;
}

/// Returns the entry that best explains why the port cannot be bound. A listener comes first.
std::optional<Entry> find_entry(std::uint16_t port) {
    std::optional<Entry> best;
    for (const char *path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        std::istringstream lines(read_file(path));
        for (std::string line; std::getline(lines, line);) {
            auto entry = parse_entry(line);
            if (!entry || entry->local.port != port) continue;
            if (!best || (entry->state == kListens && best->state != kListens)) best = std::move(entry);
        }
    }
    return best;
}

/// Returns "process 12 (python3)", or the user if the process is hidden.
std::string owner_of(const Entry &entry) {
    const std::string link = "socket:[" + entry.inode + "]";
    std::error_code error;
    for (fs::directory_iterator process("/proc", error), end; !error && process != end; process.increment(error)) {
        const std::string pid = process->path().filename();
        if (!std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; })) continue;
        std::error_code hidden;
        for (fs::directory_iterator fd(process->path() / "fd", hidden), last; !hidden && fd != last; fd.increment(hidden)) {
            std::error_code gone;
            if (fs::read_symlink(fd->path(), gone) != link) continue;
            std::string name = read_file("/proc/" + pid + "/comm");
            while (!name.empty() && name.back() == '\n')
                name.pop_back();
            return "process " + pid + " (" + name + ")";
        }
    }
    return "a process of user " + std::to_string(entry.user);
}

}  // namespace

std::string port_holder(std::uint16_t port) {
    const auto entry = port != 0 ? find_entry(port) : std::nullopt;
    if (!entry) return "";
    if (entry->state == kListens) return owner_of(*entry) + " listens there";
    const std::string ends =
        "from " + to_string(entry->local) + " to " + (entry->local == entry->remote ? "itself" : to_string(entry->remote));
    if (entry->state == kTimeWait) return "a connection " + ends + " in TIME_WAIT holds it, for 60 s at most";
    return "a connection " + ends + " of " + owner_of(*entry) + " holds it";
}

}  // namespace pccl
