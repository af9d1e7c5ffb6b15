// Checkpoints: files that hold the outer state.
//
// Little-endian. Fields in order: "PCCLTRN" and a zero byte; u32 version (1); u32 flags (bit 0: the file has momentum); u64
// revision; the counters; u64 number of tensors. For each tensor: u64 length of the name, the name, u64 elements, the parameters
// as float32 and, if flagged, the momentum as float32. The last field is the XXH3-64 of all preceding bytes.
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include "train/outer_state.h"

namespace pccl::train {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

constexpr char kMagic[8] = "PCCLTRN";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kHasMomentum = 1;

struct CloseFile {
    void operator()(std::FILE *file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

struct FreeHash {
    void operator()(XXH3_state_t *state) const { XXH3_freeState(state); }
};

/// Writes to a file and hashes the bytes.
class Hash {
public:
    Hash() : state_(XXH3_createState()) { XXH3_64bits_reset(state_.get()); }
    void add(const void *data, std::size_t bytes) { XXH3_64bits_update(state_.get(), data, bytes); }
    std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

private:
    std::unique_ptr<XXH3_state_t, FreeHash> state_;
};

class Writer {
public:
    explicit Writer(std::FILE *file) : file_(file) {}
    void bytes(const void *data, std::size_t n) {
        hash_.add(data, n);
        good_ = good_ && std::fwrite(data, 1, n, file_) == n;
    }
    template <class T> void value(const T &v) { bytes(&v, sizeof v); }
    void finish() { value(hash_.value()); }
    bool good() const { return good_; }

private:
    std::FILE *file_;
    Hash hash_;
    bool good_ = true;
};

class Reader {
public:
    explicit Reader(std::FILE *file) : file_(file) {}
    bool bytes(void *data, std::size_t n) {
        if (std::fread(data, 1, n, file_) != n) return false;
        hash_.add(data, n);
        return true;
    }
    template <class T> bool value(T &v) { return bytes(&v, sizeof v); }
    bool skip(std::uint64_t n) {
        std::array<char, 65536> scratch;
        for (; n != 0;) {
            const auto now = std::min<std::uint64_t>(n, scratch.size());
            if (!bytes(scratch.data(), now)) return false;
            n -= now;
        }
        return true;
    }
    /// True if the file ends with the hash of the bytes that were read.
    bool finished() {
        const std::uint64_t expected = hash_.value();
        std::uint64_t found = 0;
        char extra = 0;
        return value(found) && found == expected && std::fread(&extra, 1, 1, file_) == 0 && std::feof(file_) != 0;
    }

private:
    std::FILE *file_;
    Hash hash_;
};

/// A parameter's name without the parts that PyTorch's wrappers put into it: DistributedDataParallel, torch.compile, FSDP,
/// activation checkpoints. A file therefore matches a model whether or not the model is wrapped.
std::string unwrapped(const std::string &name) {
    constexpr std::array<std::string_view, 4> kWrappers = {"module", "_orig_mod", "_fsdp_wrapped_module",
                                                           "_checkpoint_wrapped_module"};
    std::string out;
    for (std::size_t begin = 0;;) {
        const std::size_t end = name.find('.', begin);
        if (end == std::string::npos) return out + name.substr(begin);
        const auto step = std::string_view(name).substr(begin, end - begin);
        if (std::ranges::find(kWrappers, step) == kWrappers.end()) out += name.substr(begin, end + 1 - begin);
        begin = end + 1;
    }
}

/// Finds each parameter once, by its name, or by its unwrapped name if that is unique.
class ByName {
public:
    explicit ByName(const std::vector<Parameter> &parameters) {
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            exact_[parameters[i].name] = i;
            const auto [at, is_new] = unwrapped_.try_emplace(unwrapped(parameters[i].name), i);
            if (!is_new) at->second = kAmbiguous;
        }
    }
    /// False if the parameter does not exist or was found before.
    bool take(const std::string &name, std::size_t &index) {
        if (const auto exact = exact_.find(name); exact != exact_.end()) {
            index = exact->second;
        } else if (const auto close = unwrapped_.find(unwrapped(name));
                   close != unwrapped_.end() && close->second != kAmbiguous) {
            index = close->second;
        } else {
            return false;
        }
        return taken_.insert(index).second;
    }

private:
    static constexpr std::size_t kAmbiguous = SIZE_MAX;
    std::unordered_map<std::string, std::size_t> exact_, unwrapped_;
    std::unordered_set<std::size_t> taken_;
};

using PiecesOf = std::vector<std::vector<const Piece *>>;

/// The pieces of each parameter, in order of its elements.
PiecesOf pieces_of(const Layout &layout, std::size_t parameters) {
    PiecesOf out(parameters);
    for (const Fragment &fragment : layout.fragments)
        for (const Piece &piece : fragment.pieces)
            out[piece.parameter].push_back(&piece);
    for (auto &pieces : out)
        std::ranges::sort(pieces, {}, [](const Piece *p) { return p->first; });
    return out;
}

struct Header {
    std::uint64_t revision = 0;
    Counters counters;
    bool has_momentum = false;
};

/// Reads a file completely. With `state`, stores its values there; otherwise only checks that it can be loaded.
Outcome read_through(const std::string &path, OuterState *state, const PiecesOf &pieces, const std::vector<Parameter> &parameters,
                     Header &header) {
    const auto refuse = [&](const std::string &what) { return invalid("checkpoint " + path + ": " + what); };
    const File file(std::fopen(path.c_str(), "rbe"));
    if (!file) return refuse(std::strerror(errno));
    Reader in(file.get());
    const auto damaged = [&] {
        return refuse("the file is damaged: it ends too early or its checksum is wrong. Load an older checkpoint");
    };
    char magic[8];
    std::uint32_t version = 0, flags = 0;
    std::uint64_t count = 0;
    if (!in.value(magic) || std::memcmp(magic, kMagic, sizeof magic) != 0)
        return refuse("the file is not a checkpoint of a trainer");
    if (!in.value(version)) return damaged();
    if (version != kVersion)
        return refuse("the file has version " + std::to_string(version) +
                      ", and this library reads version 1. Use a newer library");
    if (!in.value(flags) || !in.value(header.revision) || !in.value(header.counters) || !in.value(count)) return damaged();
    header.has_momentum = (flags & kHasMomentum) != 0;
    if (count != parameters.size()) {
        return refuse("the file has " + std::to_string(count) + " tensors, the trainer has " + std::to_string(parameters.size()));
    }
    ByName by_name(parameters);
    for (std::uint64_t t = 0; t < count; ++t) {
        std::uint64_t length = 0, elements = 0;
        if (!in.value(length)) return damaged();
        if (length == 0 || length > 1024) return damaged();
        std::string name(length, '\0');
        if (!in.bytes(name.data(), length) || !in.value(elements)) return damaged();
        std::size_t i = 0;
        if (!by_name.take(name, i))
            return refuse("tensor '" + name + "' of the file is not in the trainer, or is in the file twice");
        if (elements != parameters[i].count) {
            return refuse("tensor '" + name + "' has " + std::to_string(elements) + " elements in the file and " +
                          std::to_string(parameters[i].count) + " in the trainer");
        }
        for (int part = 0; part < (header.has_momentum ? 2 : 1); ++part) {
            float *to = state ? (part == 0 ? state->parameters : state->momentum) : nullptr;
            for (const Piece *piece : pieces[i]) {
                const std::size_t n = piece->count * sizeof(float);
                if (!(to ? in.bytes(to + piece->flat, n) : in.skip(n))) return damaged();
            }
        }
    }
    if (!in.finished()) return damaged();
    return {};
}

}  // namespace

Outcome save_state(const std::string &path, const OuterState &state, const Layout &layout,
                   const std::vector<Parameter> &parameters, std::uint64_t revision) {
    const std::string beside = path + ".new";
    const auto failed = [&](const char *what) {
        const std::string why = std::strerror(errno);
        std::remove(beside.c_str());
        return Outcome{pcclInternalError, "checkpoint " + path + " could not be written: " + what + ": " + why};
    };
    File file(std::fopen(beside.c_str(), "wbe"));
    if (!file) return failed("the temporary file next to it could not be opened");
    Writer out(file.get());
    out.value(kMagic);
    out.value(kVersion);
    out.value(state.momentum ? kHasMomentum : std::uint32_t{0});
    out.value(revision);
    Counters counters = state.counters;
    counters.held = 0;  // averages in flight are not saved
    out.value(counters);
    out.value(std::uint64_t{parameters.size()});
    const auto pieces = pieces_of(layout, parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        out.value(std::uint64_t{parameters[i].name.size()});
        out.bytes(parameters[i].name.data(), parameters[i].name.size());
        out.value(std::uint64_t{parameters[i].count});
        for (const float *from : {state.parameters, state.momentum}) {
            for (const Piece *piece : pieces[i])
                if (from) out.bytes(from + piece->flat, piece->count * sizeof(float));
        }
    }
    out.finish();
    if (!out.good() || std::fflush(file.get()) != 0 || fsync(fileno(file.get())) != 0) return failed("the write failed");
    if (std::fclose(file.release()) != 0) return failed("the write failed");
    if (std::rename(beside.c_str(), path.c_str()) != 0) return failed("the temporary file could not be renamed");
    return {};
}

Outcome load_state(const std::string &path, OuterState &state, const Layout &layout, const std::vector<Parameter> &parameters,
                   std::uint64_t &revision) {
    const auto pieces = pieces_of(layout, parameters.size());
    Header header;
    PCCL_TRAIN_TRY(read_through(path, nullptr, pieces, parameters, header));
    PCCL_TRAIN_TRY(read_through(path, &state, pieces, parameters, header));
    if (state.momentum && !header.has_momentum) std::fill_n(state.momentum, state.size, 0.0F);
    state.counters = header.counters;
    revision = header.revision;
    return {};
}

}  // namespace pccl::train
