// See train/layout.h.
#include "train/layout.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>
#include <utility>

#include "train/vector.h"

namespace pccl::train {
namespace {

constexpr std::size_t kAlignment = 16;  // elements: 64 bytes

std::size_t total(const std::vector<Parameter> &parameters) {
    return std::accumulate(parameters.begin(), parameters.end(), std::size_t{0},
                           [](std::size_t n, const Parameter &p) { return n + p.count; });
}

Outcome check_overlap(const std::vector<Parameter> &parameters) {
    std::vector<const Parameter *> by_address;
    for (const Parameter &p : parameters)
        by_address.push_back(&p);
    std::ranges::sort(by_address, [](const Parameter *a, const Parameter *b) { return std::less<>()(a->data, b->data); });
    for (std::size_t i = 1; i < by_address.size(); ++i) {
        const Parameter &a = *by_address[i - 1];
        if (std::less<>()(by_address[i]->data, a.at(a.count))) {
            return invalid("the parameters '" + a.name + "' and '" + by_address[i]->name + "' overlap. List tied weights once");
        }
    }
    return {};
}

/// The fragment of each whole parameter: consecutive parameters are grouped, and a new fragment begins when the preceding
/// elements make up the shares of the previous fragments.
std::vector<std::size_t> sequential(const std::vector<Parameter> &parameters, std::size_t fragments) {
    std::vector<std::size_t> of(parameters.size());
    const std::size_t elements = total(parameters);
    std::size_t before = 0, fragment = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const std::size_t left = parameters.size() - i;
        const std::size_t wanted = std::min(fragments - 1, before * fragments / elements);
        const bool first_of_it = i != 0 && wanted > fragment;
        const bool none_left_to_choose = i != 0 && left <= fragments - 1 - fragment;
        if (first_of_it || none_left_to_choose) ++fragment;
        of[i] = fragment;
        before += parameters[i].count;
    }
    return of;
}

void add_whole(const std::vector<Parameter> &parameters, const std::vector<std::size_t> &of, Layout &out) {
    for (std::size_t i = 0; i < parameters.size(); ++i)
        out.fragments[of[i]].pieces.push_back({i, 0, parameters[i].count, 0});
}

void add_even(const std::vector<Parameter> &parameters, Layout &out) {
    const std::size_t elements = total(parameters), n = out.fragments.size();
    std::size_t fragment = 0, end = elements / n, position = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        for (std::size_t first = 0; first < parameters[i].count;) {
            if (position == end) {
                ++fragment;
                end = fragment + 1 == n ? elements : elements / n * (fragment + 1);
            }
            const std::size_t count = std::min(parameters[i].count - first, end - position);
            out.fragments[fragment].pieces.push_back({i, first, count, 0});
            first += count;
            position += count;
        }
    }
}

}  // namespace

void *Parameter::at(std::size_t i) const { return static_cast<std::byte *>(data) + i * parameter_bytes(type); }

Place place_in(const Fragment &fragment, std::size_t element) {
    const std::size_t flat = fragment.first + element;
    const auto next = std::ranges::upper_bound(fragment.pieces, flat, {}, &Piece::flat);
    const Piece &piece = *std::prev(next);
    return {piece.parameter, piece.first + flat - piece.flat};
}

Outcome read_parameters(const pcclTensorInfo_t *infos, std::size_t count, std::vector<Parameter> &out) {
    if (!infos || count == 0) return invalid("there are no parameters");
    std::set<std::string> names;
    for (std::size_t i = 0; i < count; ++i) {
        const pcclTensorInfo_t &info = infos[i];
        const std::string which = "parameters[" + std::to_string(i) + "]";
        if (!info.name || !*info.name) return invalid(which + " has no name");
        const std::string name = which + " ('" + info.name + "')";
        if (std::string(info.name).size() > 1024) return invalid(which + " has a name of more than 1024 bytes");
        if (!names.insert(info.name).second) return invalid(name + " has the name of another parameter");
        if (!info.data) return invalid(name + ": data is NULL");
        if (info.count == 0) return invalid(name + ": count is 0");
        if (info.device_type != pcclDeviceCpu) return invalid(name + " is not on the CPU. Pass a copy in host memory");
        if (parameter_bytes(info.datatype) == 0) return invalid(name + " is not of pcclFloat, pcclFloat16 or pcclBFloat16");
        if (info.count > (std::size_t{1} << 60U)) return invalid(name + ": count is larger than any memory");
        out.push_back({info.name, info.data, info.count, info.datatype});
    }
    return check_overlap(out);
}

Outcome make_layout(const std::vector<Parameter> &parameters, pcclFragments_t pattern, std::uint32_t fragments, Layout &out) {
    const std::size_t most = pattern == pcclFragmentsEven ? total(parameters) : parameters.size();
    if (fragments == 0 || fragments > most) {
        return invalid("`fragments` is " + std::to_string(fragments) + ", not 1 to " + std::to_string(most) +
                       (pattern == pcclFragmentsEven ? " (the elements)" : " (the tensors; pcclFragmentsEven cuts them)"));
    }
    out = {};
    out.fragments.resize(fragments);
    if (pattern == pcclFragmentsEven) {
        add_even(parameters, out);
    } else if (pattern == pcclFragmentsSequential) {
        add_whole(parameters, sequential(parameters, fragments), out);
    } else {
        std::vector<std::size_t> of(parameters.size());
        for (std::size_t i = 0; i < of.size(); ++i)
            of[i] = i % fragments;
        add_whole(parameters, of, out);
    }
    for (Fragment &f : out.fragments) {
        f.first = out.size;
        for (Piece &piece : f.pieces) {
            piece.flat = f.first + f.count;
            f.count += piece.count;
        }
        out.size += (f.count + 1 + kAlignment - 1) / kAlignment * kAlignment;
    }
    return {};
}

}  // namespace pccl::train
