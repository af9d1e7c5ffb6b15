// The worked examples of docs/internals/protocol.md: a comment names a block of lines "hex bytes ; meaning".
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace pccl {

/// Empty if there is no such example or its format is invalid.
inline std::vector<std::byte> worked_example(const std::string &name) {
    std::ifstream document(PCCL_DOCS "/internals/protocol.md");
    std::vector<std::byte> bytes;
    std::string line;
    while (std::getline(document, line) && line != "<!-- bytes: " + name + " -->") {
    }
    std::getline(document, line);
    if (!document || line != "```text") return {};
    while (std::getline(document, line) && line != "```") {
        std::istringstream words(line.substr(0, line.find(';')));
        for (std::string word; words >> word;) {
            if (word.size() != 2 || word.find_first_not_of("0123456789abcdef") != std::string::npos) return {};
            bytes.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
        }
    }
    return bytes;
}

inline std::string in_hex(std::span<const std::byte> bytes) {
    constexpr const char *kDigits = "0123456789abcdef";
    std::string text;
    for (const std::byte byte : bytes) {
        text += kDigits[static_cast<int>(byte) >> 4];
        text += kDigits[static_cast<int>(byte) & 15];
        text += ' ';
    }
    return text;
}

}  // namespace pccl
