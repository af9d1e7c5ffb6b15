// Runs a fuzz target on stored inputs without a fuzzer, as ctest does with the corpora. Each argument is a pack of inputs
// (tests/fuzz/corpus.py), a file that is one input, or a folder of such files.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);
extern "C" int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

namespace {

using Bytes = std::vector<char>;

constexpr char kPackMagic[8] = {'P', 'C', 'C', 'L', 'f', 'u', 'z', '1'};

Bytes read_file(const std::filesystem::path &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void run(const char *data, std::size_t size) {
    const std::vector<std::uint8_t> exact(data, data + size);  // so that a sanitizer sees reads beyond its end
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

/// The number of inputs in the pack; -1 if the pack is incomplete.
long run_pack(const Bytes &pack) {
    long count = 0;
    for (std::size_t at = sizeof kPackMagic; at < pack.size(); ++count) {
        std::uint32_t size = 0;
        if (pack.size() - at < sizeof size) return -1;
        std::memcpy(&size, pack.data() + at, sizeof size);
        at += sizeof size;
        if (pack.size() - at < size) return -1;
        run(pack.data() + at, size);
        at += size;
    }
    return count;
}

}  // namespace

int main(int argc, char **argv) {
    pccl::abort_on_broken_invariants(true);
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    long count = 0;
    for (int i = 1; i < argc; ++i) {
        std::vector<std::filesystem::path> files;
        if (std::filesystem::is_directory(argv[i]))
            for (const auto &entry : std::filesystem::directory_iterator(argv[i]))
                files.push_back(entry.path());
        else
            files.emplace_back(argv[i]);
        for (const auto &file : files) {
            const Bytes bytes = read_file(file);
            const bool pack = bytes.size() >= sizeof kPackMagic && std::memcmp(bytes.data(), kPackMagic, sizeof kPackMagic) == 0;
            if (!pack) run(bytes.data(), bytes.size());
            const long inputs = pack ? run_pack(bytes) : 1;
            if (inputs < 0) {
                std::fprintf(stderr, "%s is cut short\n", file.c_str());
                return 1;
            }
            count += inputs;
        }
    }
    std::printf("%ld inputs\n", count);
    return count > 0 ? 0 : 1;
}
