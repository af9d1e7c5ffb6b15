// Faults of the paths between nodes. A path has a direction, and the opposite direction can be good.
//
// TCP needs both directions: a connection is made only if packets pass both ways, and a sender receives no acknowledgement if
// either direction is bad. A path can also lose only large packets, so that connections are made over it and carry no data.
#pragma once

#include <cstddef>
#include <map>
#include <utility>

#include "base/time.h"

namespace pccl::sim {

class Paths {
public:
    enum class Loss { none, bulk, all };
    static constexpr Time kNever{Duration::max()};  ///< the time at which such a path heals

    /// A path that is already bad stays bad at least as long as before.
    void lose(std::size_t from, std::size_t to, Loss what, Time now, Time until);

    Loss loss(std::size_t from, std::size_t to, Time now) const;
    bool carries(std::size_t from, std::size_t to, Time now) const { return loss(from, to, now) == Loss::none; }
    Time heals(std::size_t from, std::size_t to) const { return paths_.at({from, to}).until; }
    /// Good in both directions.
    bool well(std::size_t a, std::size_t b, Time now) const { return carries(a, b, now) && carries(b, a, now); }
    bool connects(std::size_t a, std::size_t b, Time now) const {
        return loss(a, b, now) != Loss::all && loss(b, a, now) != Loss::all;
    }
    /// The path is bad or was bad at some time after `since`.
    bool bad_within(std::size_t from, std::size_t to, Time since) const {
        const auto found = paths_.find({from, to});
        return found != paths_.end() && found->second.until > since;
    }
    /// One direction has been bad all the time since then.
    bool bad_since(std::size_t a, std::size_t b, Time since, Time now) const;

private:
    struct Path {
        Loss loss = Loss::none;
        Time since, until;
    };
    const Path *bad(std::size_t from, std::size_t to, Time now) const;

    std::map<std::pair<std::size_t, std::size_t>, Path> paths_;
};

}  // namespace pccl::sim
