// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nm/result.hpp"

namespace nm {

enum class port_kind { netdev, pipe, vale, pci, ptnet, null };

/// Which of a port's rings a handle is for (netmap's nr_mode).
enum class ring_mode { all, host, all_and_host, one, one_host };

/// A port name, taken apart: `netmap:eth0-2/x@conf:slots=512` (docs/port-names.md has the grammar).
struct port_spec {
    port_kind kind = port_kind::netdev;
    std::string name;     ///< "eth0", "vale0:a", "0000:03:00.0"; for a pipe its parent's
    std::string pipe_id;  ///< what follows `{` or `}`
    bool pipe_slave = false;
    ring_mode mode = ring_mode::all;
    unsigned ring = 0;  ///< for one and one_host
    unsigned device_port = 0;  ///< ptnet: which of the ports in the device's memory; `name` says it too, unless it is the first
    bool exclusive = false, zero_copy_monitor = false, monitor_tx = false, monitor_rx = false;
    bool rx_only = false, tx_only = false;
    std::optional<unsigned> mem_id;
    std::string share;  ///< `@share=PORT`
    std::optional<unsigned> tx_rings, rx_rings, tx_slots, rx_slots, host_rings;
    std::string conf_mode;  ///< `@conf:mode=`
    std::optional<unsigned> mitigation_us;
    std::optional<unsigned> mtu;

    [[nodiscard]] bool monitor() const noexcept { return monitor_rx || monitor_tx || zero_copy_monitor; }
    /// The name under which two opens meet: parent and pipe, without which rings or which end.
    [[nodiscard]] std::string identity() const {
        return pipe_id.empty() ? name : name + "{" + pipe_id;
    }
};

namespace detail {

class name_parser {
public:
    explicit name_parser(std::string_view text) : text_(text), rest_(text) {}

    result<port_spec> run() {
        if (text_.size() > 255) return bad("is longer than 255 characters");
        if (!subsystem()) return tl::unexpected<error>(std::move(error_));
        if (!pipe_part() || !mode_part() || !options()) return tl::unexpected<error>(std::move(error_));
        if (spec_.mtu && spec_.kind != port_kind::pci) return bad("sets an MTU, which is for PCI devices; an interface has its own");
        return std::move(spec_);
    }

private:
    static constexpr std::string_view digits = "0123456789";

    static bool word_char(char c) noexcept {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    }
    static bool word(std::string_view s) noexcept {
        for (const char c : s)
            if (!word_char(c)) return false;
        return !s.empty();
    }

    tl::unexpected<error> bad(const std::string& why) const {
        return fail(EINVAL, "port name \"" + std::string(text_) + "\" " + why);
    }
    bool stop(const std::string& why) {
        error_ = std::move(bad(why).value());
        return false;
    }

    std::optional<unsigned> number(std::string_view s) const noexcept {
        unsigned v = 0;
        const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
        if (s.empty() || ec != std::errc{} || end != s.data() + s.size()) return std::nullopt;
        return v;
    }

    bool starts(std::string_view prefix) {
        if (rest_.substr(0, prefix.size()) != prefix) return false;
        rest_.remove_prefix(prefix.size());
        return true;
    }

    bool subsystem() {
        if (starts("netmap:")) {
            if (rest_.substr(0, 4) == "vale" && rest_.find(':') != std::string_view::npos)
                return stop("names a VALE port, which is written without \"netmap:\"");
            return base_name();
        }
        if (rest_ == "null" || starts("null:")) {
            spec_.kind = port_kind::null;
            if (rest_ == "null") rest_ = {};
            return take_name(false);
        }
        if (starts("ptnet:")) {
            spec_.kind = port_kind::ptnet;
            return base_name();
        }
        if (rest_.substr(0, 4) == "vale") return vale_name();
        if (rest_.empty()) return stop("is empty; a kernel interface is written netmap:eth0");
        if (rest_.find(':') == std::string_view::npos)
            return stop("has no prefix; did you mean \"netmap:" + std::string(rest_) + "\"?");
        if (pci_address(rest_.substr(0, name_end())))
            return stop("has no prefix; did you mean \"netmap:" + std::string(rest_) + "\"?");
        return stop("has an unknown prefix; there are netmap:, valeN:, null: and ptnet:");
    }

    // A '-' belongs to the name (br-lan) unless all that follows up to a separator is a number (eth0-2).
    std::size_t name_end() const noexcept {
        for (std::size_t i = 0; i < rest_.size(); ++i) {
            const char c = rest_[i];
            if (c == '{' || c == '}' || c == '*' || c == '^' || c == '/' || c == '@') return i;
            if (c == '-') {
                const std::size_t e = rest_.find_first_not_of(digits, i + 1);
                const bool ends = e == std::string_view::npos || rest_[e] == '/' || rest_[e] == '@';
                if (ends && e != i + 1 && i + 1 < rest_.size()) return i;
            }
        }
        return rest_.size();
    }

    bool take_name(bool required) {
        const std::size_t end = name_end();
        spec_.name = std::string(rest_.substr(0, end));
        rest_.remove_prefix(end);
        if (required && spec_.name.empty()) return stop("does not say which port");
        return true;
    }

    static bool pci_address(std::string_view s) noexcept {  // [dddd:]bb:dd.f
        const std::size_t dot = s.rfind('.');
        if (dot == std::string_view::npos || dot + 2 != s.size()) return false;
        const auto hex = [](std::string_view t) {
            return !t.empty() && t.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
        };
        if (s.size() == 12) return hex(s.substr(0, 4)) && s[4] == ':' && pci_address(s.substr(5));
        return s.size() == 7 && hex(s.substr(0, 2)) && s[2] == ':' && hex(s.substr(3, 2)) && hex(s.substr(6));
    }

    /// ptnet:0000:00:04.0:1 is the second port of that device.
    bool device_port() {
        const std::size_t colon = spec_.name.rfind(':');
        if (colon == std::string::npos || !pci_address(std::string_view(spec_.name).substr(0, colon))) return true;
        const auto n = number(std::string_view(spec_.name).substr(colon + 1));
        if (!n || *n > 999) return stop("has no number of a port behind its device, as in ptnet:0000:00:04.0:1");
        spec_.device_port = *n;
        spec_.name.resize(colon);
        return true;
    }

    bool base_name() {
        if (!take_name(true)) return false;
        if (spec_.kind == port_kind::ptnet && !device_port()) return false;
        if (pci_address(spec_.name)) {
            // One device, one name: 03:00.0 and 0000:03:00.0 meet.
            if (spec_.name.size() == 7) spec_.name.insert(0, "0000:");
            for (char& c : spec_.name)
                if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
            if (spec_.kind == port_kind::netdev) spec_.kind = port_kind::pci;
            if (spec_.device_port != 0) spec_.name += ":" + std::to_string(spec_.device_port);
            return true;
        }
        if (spec_.name.find(':') != std::string::npos)
            return stop("is no PCI address, which is written like 0000:03:00.0, and names of interfaces have no ':'");
        for (const char c : spec_.name)
            if (!word_char(c) && c != '.' && c != '-')
                return stop(std::string("has a '") + c + "' in its name; letters, digits, '_', '.' and '-' are allowed");
        if (spec_.name.size() > 15) return stop("has a name of more than 15 characters");
        return true;
    }

    bool vale_name() {
        spec_.kind = port_kind::vale;
        const std::size_t colon = rest_.find(':');
        if (colon == std::string_view::npos) return stop("names a switch but no port of it; write valeN:PORT");
        if (!word(rest_.substr(0, colon))) return stop("has a switch name that is not letters, digits and '_'");
        const std::string sw(rest_.substr(0, colon + 1));
        rest_.remove_prefix(colon + 1);
        if (!take_name(true)) return false;
        if (!word(spec_.name)) return stop("has a port name that is not letters, digits and '_'");
        if (spec_.name.size() > 15 || sw.size() > 16) return stop("has a part of more than 15 characters");
        spec_.name = sw + spec_.name;
        return true;
    }

    bool pipe_part() {
        if (rest_.empty() || (rest_[0] != '{' && rest_[0] != '}')) return true;
        if (spec_.name.empty()) return stop("does not say whose pipe it is");
        spec_.pipe_slave = rest_[0] == '}';
        rest_.remove_prefix(1);
        std::size_t end = 0;
        while (end < rest_.size() && word_char(rest_[end])) ++end;
        if (end == 0) return stop("does not say which pipe; an id of letters, digits and '_' follows the brace");
        spec_.pipe_id = std::string(rest_.substr(0, end));
        rest_.remove_prefix(end);
        spec_.kind = port_kind::pipe;
        return true;
    }

    bool ring_number(ring_mode mode) {
        const std::size_t end = std::min(rest_.find_first_not_of(digits), rest_.size());
        const auto n = number(rest_.substr(0, end));
        if (!n) return stop("has no ring number after '-'");
        spec_.mode = mode;
        spec_.ring = *n;
        rest_.remove_prefix(end);
        return true;
    }

    bool mode_part() {
        if (starts("-")) return ring_number(ring_mode::one);
        if (starts("*")) spec_.mode = ring_mode::all_and_host;
        else if (starts("^")) {
            spec_.mode = ring_mode::host;
            if (!rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9') return ring_number(ring_mode::one_host);
        }
        return true;
    }

    bool flags() {
        while (!rest_.empty() && rest_[0] != '@') {
            switch (rest_[0]) {
                case 'x': spec_.exclusive = true; break;
                case 'z': spec_.zero_copy_monitor = true; break;
                case 't': spec_.monitor_tx = true; break;
                case 'r': spec_.monitor_rx = true; break;
                case 'R': spec_.rx_only = true; break;
                case 'T': spec_.tx_only = true; break;
                default: return stop(std::string("has an unknown flag '") + rest_[0] + "'; there are x z t r R T");
            }
            rest_.remove_prefix(1);
        }
        if (spec_.rx_only && spec_.tx_only) return stop("asks for rx rings only and for tx rings only");
        return true;
    }

    bool options() {
        if (starts("/") && !flags()) return false;
        while (starts("@")) {
            const std::size_t end = std::min(rest_.find('@'), rest_.size());
            const std::string_view option = rest_.substr(0, end);
            rest_.remove_prefix(end);
            if (!one_option(option)) return false;
        }
        if (!rest_.empty()) return stop("has \"" + std::string(rest_) + "\" at its end that means nothing");
        return true;
    }

    bool one_option(std::string_view option) {
        if (const auto id = number(option)) {
            if (*id == 0 || *id > 65535) return stop("has a memory id that is not 1 to 65535");
            if (spec_.mem_id && *spec_.mem_id != *id) return stop("has two memory ids");
            spec_.mem_id = id;
            return true;
        }
        const auto has = [&option](std::string_view p) {
            if (option.substr(0, p.size()) != p) return false;
            option.remove_prefix(p.size());
            return true;
        };
        if (has("share=") || has("share:port=")) {
            spec_.share = std::string(option);
            return !spec_.share.empty() || stop("does not say with whom to share memory");
        }
        if (has("conf:")) return conf(option);
        if (has("extmem") || has("offset"))
            return stop("asks for @" + std::string(option) + ", which nm does not have");
        return stop("has an unknown option \"@" + std::string(option) + "\"; there are @N, @share=, @conf:");
    }

    bool conf(std::string_view list) {
        while (!list.empty()) {
            const std::size_t end = std::min(list.find(','), list.size());
            const std::string_view item = list.substr(0, end);
            list.remove_prefix(end == list.size() ? end : end + 1);
            const std::size_t eq = item.find('=');
            const std::string_view key = item.substr(0, std::min(eq, item.size()));
            const std::string_view value = eq == std::string_view::npos ? std::string_view{} : item.substr(eq + 1);
            if (key == "mode") {
                spec_.conf_mode = std::string(value);
                continue;
            }
            const auto n = number(value);
            if (!n) return stop("has no number in \"" + std::string(item) + "\"");
            if (key == "mit" && *n <= 1'000'000) spec_.mitigation_us = n;
            else if (*n == 0 || *n > 1'000'000) return stop("asks for " + std::string(item) + ": out of range");
            else if (key == "mtu") spec_.mtu = n;
            else if (key == "rings") spec_.tx_rings = spec_.rx_rings = n;
            else if (key == "tx-rings") spec_.tx_rings = n;
            else if (key == "rx-rings") spec_.rx_rings = n;
            else if (key == "slots") spec_.tx_slots = spec_.rx_slots = n;
            else if (key == "tx-slots") spec_.tx_slots = n;
            else if (key == "rx-slots") spec_.rx_slots = n;
            else if (key == "host-rings" || key == "host-tx-rings" || key == "host-rx-rings") spec_.host_rings = n;
            else
                return stop("has an unknown @conf: key \"" + std::string(key) +
                            "\"; there are rings, tx-rings, rx-rings, host-rings, slots, tx-slots, rx-slots, mode, mit, mtu");
        }
        return true;
    }

    std::string_view text_;
    std::string_view rest_;
    port_spec spec_;
    error error_;
};

}  // namespace detail

/// Takes a port name apart. EINVAL and a sentence for a name that is none; whether the port exists is not looked at.
[[nodiscard]] inline result<port_spec> parse_port(std::string_view name) { return detail::name_parser(name).run(); }

}  // namespace nm
