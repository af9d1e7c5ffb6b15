#include "paths.h"

#include <algorithm>

namespace pccl::sim {

const Paths::Path *Paths::bad(std::size_t from, std::size_t to, Time now) const {
    const auto found = paths_.find({from, to});
    return found != paths_.end() && now < found->second.until ? &found->second : nullptr;
}

void Paths::lose(std::size_t from, std::size_t to, Loss what, Time now, Time until) {
    const bool already = bad(from, to, now) != nullptr;
    Path &path = paths_[{from, to}];
    path = already ? Path{std::max(path.loss, what), path.since, std::max(path.until, until)} : Path{what, now, until};
}

Paths::Loss Paths::loss(std::size_t from, std::size_t to, Time now) const {
    const Path *path = bad(from, to, now);
    return path ? path->loss : Loss::none;
}

bool Paths::bad_since(std::size_t a, std::size_t b, Time since, Time now) const {
    const Path *forth = bad(a, b, now), *back = bad(b, a, now);
    return (forth && forth->since <= since) || (back && back->since <= since);
}

}  // namespace pccl::sim
