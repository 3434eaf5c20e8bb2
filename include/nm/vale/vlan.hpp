// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A switch with VLANs: an example of a lookup made out of another one.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "nm/cpu.hpp"
#include "nm/vale/learning.hpp"
#include "nm/vale/lookup.hpp"
#include "nm/vale/peek.hpp"

namespace nm::vale {

/// Keeps VLANs apart and learns within them. An access port is in one VLAN: its frames without a tag are of that VLAN, and
/// so may be tagged ones; others are dropped. A trunk is in all of them, by the tags of its frames; those without are
/// dropped. A new port is an access port of VLAN 1. Frames pass as they are: no tag is added or taken off. One address is
/// at one port, in whatever VLAN (shared learning, IEEE 802.1Q 8.8).
class vlan {
public:
    using lane = learning::lane;
    static constexpr std::uint16_t ids = 4095;  ///< 1 to 4094 are VLANs

    explicit vlan(const learning_options& o = {})
        : learning_(o), members_(std::make_unique<std::array<port_set, ids>>()) {}

    [[gnu::always_inline]] void begin(lane& l) noexcept { learning_.begin(l); }

    [[nodiscard]] [[gnu::always_inline]] destination operator()(const packet& p, lane& l) noexcept {
        const std::uint16_t own = load_once(access_[p.from]), tag = tag_of(p), id = tag != 0 ? tag : own;
        if (id == 0 || id >= ids || (own != 0 && own != id)) return destination::drop();
        const destination d = learning_(p, l);
        const port_set& members = (*members_)[id];
        if (d.one() ? members.test(d.port()) : !d.flood()) return d;
        return destination::to(members);
    }
    [[gnu::always_inline]] void prefetch(const packet& p) const noexcept { learning_.prefetch(p); }

    void access(port_number p, std::uint16_t id) noexcept {
        leave(p);
        if (id == 0 || id >= ids) return;  // in none
        store_once(access_[p], id);
        (*members_)[id].add(p);
    }
    void trunk(port_number p) noexcept {
        leave(p);
        store_once(access_[p], std::uint16_t{0});
        for (std::uint16_t id = 1; id < ids; ++id) (*members_)[id].add(p);
    }
    void attached(port_number p, std::string_view) noexcept { access(p, 1); }
    void detached(port_number p) noexcept {
        leave(p);
        learning_.detached(p);
    }
    [[nodiscard]] learning& stations() noexcept { return learning_; }

private:
    static constexpr std::uint16_t none = ids;

    /// The frame's VLAN, 0 if it has no tag or only a priority.
    [[nodiscard]] [[gnu::always_inline]] static std::uint16_t tag_of(const packet& p) noexcept {
        const std::uint16_t type = peek16(p.data + 12);
        if ((type != ether_vlan && type != ether_service_vlan) || p.len < 18) return 0;
        return peek16(p.data + 14) & 0xfff;
    }
    void leave(port_number p) noexcept {
        store_once(access_[p], none);
        for (auto& m : *members_) m.remove(p);
        learning_.forget(p);
    }

    learning learning_;
    std::unique_ptr<std::array<port_set, ids>> members_;
    std::array<std::uint16_t, 256> access_{};
};
static_assert(vale_lookup<vlan>);

}  // namespace nm::vale
