// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Frames as they are on a wire, made byte by byte.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace nm::test {

using bytes = std::vector<std::uint8_t>;

struct endpoint {
    std::uint32_t host = 0;
    std::uint16_t port = 0;
};

// One by one: at -O3 g++ 12 sees vector's insert write where it does not.
inline void put(bytes& f, std::initializer_list<std::uint8_t> more) {
    for (const auto b : more) f.push_back(b);
}
inline void put16(bytes& f, unsigned v) { put(f, {static_cast<std::uint8_t>(v >> 8), static_cast<std::uint8_t>(v)}); }
inline void put32(bytes& f, std::uint32_t v) {
    put16(f, v >> 16);
    put16(f, v & 0xffffU);
}

/// Ethernet's header from station 1 to station 2, with tags (each a type), up to the type of what follows.
inline bytes ethernet(unsigned type, std::initializer_list<unsigned> tags = {}, std::uint8_t from = 1, std::uint8_t to = 2) {
    bytes f;
    put(f, {2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from});
    for (const unsigned t : tags) {
        put16(f, t);
        put16(f, 100);
    }
    put16(f, type);
    return f;
}

/// `place`: flags and offset in 8 bytes, as in the header (0x2000: more follow). `words`: of the header.
inline bytes ipv4(const endpoint& from, const endpoint& to, std::uint8_t protocol, unsigned id = 0, unsigned place = 0, std::initializer_list<unsigned> tags = {},
                  unsigned words = 5) {
    bytes f = ethernet(0x0800, tags);
    put(f, {static_cast<std::uint8_t>(0x40 | words), 0});
    put16(f, words * 4 + 20);
    put16(f, id);
    put16(f, place);
    put(f, {64, protocol, 0, 0});
    put32(f, from.host);
    put32(f, to.host);
    f.resize(f.size() + (words - 5) * 4, 1);
    put16(f, from.port);
    put16(f, to.port);
    f.resize(f.size() + 16, 0x55);
    return f;
}

/// An extension header: its type, and its bytes without the first, which says what follows.
struct extension {
    std::uint8_t type;
    bytes rest;
};
inline extension options(std::uint8_t type, std::uint8_t units = 0) {
    extension e{type, bytes(7U + 8U * units)};
    e.rest[0] = units;
    return e;
}
inline extension fragment(std::uint32_t id, unsigned offset, bool more) {
    extension e{44, {0}};
    put16(e.rest, offset * 8 | (more ? 1U : 0U));
    put32(e.rest, id);
    return e;
}

inline bytes ipv6(const endpoint& from, const endpoint& to, std::uint8_t protocol, const std::vector<extension>& chain = {}, std::initializer_list<unsigned> tags = {}) {
    bytes f = ethernet(0x86dd, tags);
    put(f, {0x60, 0, 0, 0, 0, 60, chain.empty() ? protocol : chain[0].type, 64});
    for (const auto& e : {from, to}) {
        put(f, {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
        put32(f, e.host);
    }
    for (std::size_t i = 0; i < chain.size(); ++i) {
        f.push_back(i + 1 < chain.size() ? chain[i + 1].type : protocol);
        for (const auto b : chain[i].rest) f.push_back(b);
    }
    put16(f, from.port);
    put16(f, to.port);
    f.resize(f.size() + 16, 0x55);
    return f;
}

}  // namespace nm::test
