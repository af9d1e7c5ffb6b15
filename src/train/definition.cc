// See train/definition.h.
#include "train/definition.h"

#include <charconv>

#include <xxhash.h>

namespace pccl::train {
namespace {

constexpr std::size_t kMaxLine = 900;                     // bytes; a name of the shared state has at most 1024
constexpr std::size_t kMaxLines = 16384;                  // a shared state has at most 65536 tensors
constexpr std::size_t kMaxBytes = std::size_t{4} << 20U;  // of all lines: a message to the master has at most 16 MiB
constexpr const char *kPrefix = "pccl.";

const char *type_name(pcclDataType_t type) {
    if (type == pcclFloat16) return "float16";
    return type == pcclBFloat16 ? "bfloat16" : "float32";
}

std::string shortened(const std::string &line) {
    if (line.size() <= kMaxLine) return line;
    return line.substr(0, kMaxLine - 40) + " ... (hash " + std::to_string(XXH3_64bits(line.data(), line.size())) + ")";
}

/// The text between quotes that begins at `from` and ends before the last `end` of `text`; "" if there is none.
std::string quoted(const std::string &text, std::size_t from, const std::string &end) {
    const std::size_t to = text.rfind(end);
    return to == std::string::npos || to < from ? "" : text.substr(from, to - from);
}

std::string without_prefix(const std::string &name) {
    return name.starts_with(kPrefix) ? name.substr(std::char_traits<char>::length(kPrefix)) : name;
}

}  // namespace

std::vector<std::string> lines_of(const std::vector<Parameter> &parameters) {
    std::vector<std::string> lines;
    for (const Parameter &p : parameters)
        lines.push_back(p.name + ", " + std::to_string(p.count) + " elements of " + type_name(p.type));
    return lines;
}

std::vector<std::string> definition_names(const std::vector<std::string> &lines, const std::vector<Parameter> &parameters) {
    std::vector<std::string> names;
    std::uint64_t hash = 0;
    std::size_t bytes = 0;
    for (const Parameter &p : parameters) {
        hash = XXH3_64bits_withSeed(p.name.data(), p.name.size(), hash);
        hash = XXH3_64bits_withSeed(&p.count, sizeof p.count, hash);
    }
    for (const std::string &line : lines) {
        hash = XXH3_64bits_withSeed(line.data(), line.size(), hash);
        bytes += line.size();
        if (names.size() < kMaxLines && bytes <= kMaxBytes)
            names.push_back("pccl.tensor " + std::to_string(names.size()) + ": " + shortened(line));
    }
    names.push_back("pccl.tensors: " + std::to_string(lines.size()) + " in all, definition " +
                    std::to_string(hash % 1'000'000'000));
    return names;
}

std::string explain_refusal(const std::string &why, const std::vector<pcclTensorInfo_t> &mine) {
    const std::string own = "its tensor ", lacks = "it lacks the group's tensor ", groups = ") and the group's is '",
                      type = "' (type ";
    std::size_t at = why.find(own);
    const bool has = at != std::string::npos;
    if (!has && (at = why.find(lacks)) == std::string::npos) return why;
    at += has ? own.size() : lacks.size();
    std::size_t index = 0;
    if (std::from_chars(why.data() + at, why.data() + why.size(), index).ec != std::errc{}) return why;
    std::string here = "nothing", run = "nothing";
    if (has) {
        if (index >= mine.size()) return why;
        here = mine[index].name;
        const std::size_t name = why.find("'" + here + type, at);
        if (name == std::string::npos) return why;
        const std::size_t theirs = why.find(groups, name + here.size());
        if (theirs != std::string::npos) run = quoted(why, theirs + groups.size(), type);
        const bool only_size = theirs != std::string::npos && run == here;
        if (run.empty() || only_size) return why;
    } else {
        const std::size_t name = why.find(", '", at);
        if (name == std::string::npos || (run = quoted(why, name + 3, type)).empty()) return why;
    }
    return "this peer was refused since its definition differs from the run's: here \"" + without_prefix(here) +
           "\", in the run \"" + without_prefix(run) +
           "\". Give every peer the same tensors, in the same order, and the same settings";
}

}  // namespace pccl::train
