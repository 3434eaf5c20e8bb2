// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <random>
#include <variant>

#include "board.hpp"

namespace host {
namespace {

/// What can be attached: devices and the stack on them. Ports of other processes are not, since the host waits for nobody.
using devices = nm::port_list<nm::netdev, nm::null_port, nm::nic<nm::e1000>, nm::nic<nm::virtio_net>, nm::nic<nm::vmxnet3>, nm::nic<nm::ixgbe>>;

unsigned number(const std::string& w, unsigned otherwise) noexcept {
    unsigned v = otherwise;
    const auto [end, ec] = std::from_chars(w.data(), w.data() + w.size(), v);
    return ec == std::errc{} && end == w.data() + w.size() ? v : otherwise;
}

/// What follows the first two words; 0: as usual.
nm::open_options options(const std::vector<std::string>& words) {
    nm::open_options o;
    o.offloads = true;  // what one member leaves undone is done where another could not do it
    if (const auto n = number(words[3], 0); n != 0) o.tx_slots = n;
    if (const auto n = number(words[4], 0); n != 0) o.rx_slots = n;
    if (const auto n = number(words[5], 0); n != 0) o.mem_id = n;
    return o;
}

}  // namespace

template <class P>
nm::result<std::shared_ptr<member>> board::member_on_switch(P port, const std::string& as, const nm::open_options& o) {
    auto made = switch_->try_attach(std::move(port), as, o);
    if (!made) return forward_error(made);
    return std::shared_ptr<member>(std::make_shared<member_of<P>>(std::move(*made)));
}

nm::result<void> board::join(nm::result<std::shared_ptr<member>> made, const std::string& interface, bool is_made) {
    if (!made) return forward_error(made);
    if (auto ok = loop_->add(*made); !ok) return ok;
    auto& a = members_.emplace_back();
    a.what = std::move(*made);
    a.interface = interface;
    a.made = is_made;
    return {};
}

/// Devices take their time, and wishes may come faster.
bool board::busy(client from, const control_message& m) {
    constexpr std::size_t most_jobs = 64;
    if (beside_.pending() < most_jobs) return false;
    refuse(from, m, EAGAIN, name_ + " has many devices to open and close yet; ask again");
    return true;
}

/// attach INTERFACE HOST(0|1) TX_SLOTS RX_SLOTS MEMORY
void board::attach(client from, const control_message& m, const std::vector<std::string>& words) {
    const std::string interface = words[1];
    if (auto own = own_port(name_ + ":" + interface); !own) return refuse(from, m, own.error());
    std::vector<std::string> parts{interface};
    if (words[2] == "1") parts.push_back(interface + "^");
    for (const auto& p : parts)
        if (find(name_ + ":" + p) != members_.end()) return refuse(from, m, EBUSY, name_ + ":" + p + " is attached already");
    if (busy(from, m)) return;
    const auto o = options(words);
    server_.hold(from, true);
    beside_.start([this, from, request = m.sequence, parts, interface, o]() -> background::after {
        auto opened = std::make_shared<std::vector<nm::result<devices::variant>>>();
        for (const auto& p : parts) {
            const bool whole = p.find(':') != p.npos && !p.starts_with("0000:") && !(p.size() == 7 && p[2] == ':');
            opened->push_back(nm::try_open<devices>(devices_, whole ? p : "netmap:" + p, o));
            if (!opened->back()) break;
        }
        return [this, from, request, parts, interface, o, opened] {
            control_message asked;
            asked.sequence = request;
            server_.hold(from, holds(from));
            if (!server_.has(from)) return;
            nm::result<void> ok;
            std::size_t joined = 0;
            for (std::size_t i = 0; ok && i < opened->size(); ++i) {
                if (!(*opened)[i]) {
                    ok = nm::fail((*opened)[i].error().code.value(), (*opened)[i].error().text);
                    break;
                }
                ok = std::visit([&](auto& p) { return join(member_on_switch(std::move(p), parts[i], o), interface, false); }, *(*opened)[i]);
                if (ok) ++joined;
            }
            if (ok) return answer(from, asked);
            while (joined-- != 0) remove(std::prev(members_.end()), {});
            refuse(from, asked, ok.error());
            beside_.start([opened]() -> background::after {
                opened->clear();
                return {};
            });
        };
    });
}

/// create NAME MTU TX_SLOTS RX_SLOTS MEMORY: an interface that is a port of the switch.
void board::create(client from, const control_message& m, const std::vector<std::string>& words) {
    const std::string& name = words[1];
    if (auto own = own_port(name_ + ":" + name); !own) return refuse(from, m, own.error());
    if (const auto s = nm::parse_port(name_ + ":" + name); !s || s->name != name_ + ":" + name || name.starts_with("vale"))
        return refuse(from, m, EINVAL, "\"" + name + "\" is no name for a persistent port: up to 15 letters, digits and '_', and it does not begin with \"vale\"");
    if (busy(from, m)) return;
    const auto o = options(words);
    std::array<std::uint8_t, 6> mac{};
    std::random_device any;
    for (auto& byte : mac) byte = static_cast<std::uint8_t>(any());
    mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 2U);
    server_.hold(from, true);
    beside_.start([this, from, request = m.sequence, name, o, mac, mtu = number(words[2], 1500)]() -> background::after {
        auto made = std::make_shared<nm::result<nm::tap_port>>(nm::tap_port::create(devices_, name, mac, mtu, o));
        return [this, from, request, name, o, made] {
            control_message asked;
            asked.sequence = request;
            server_.hold(from, holds(from));
            if (!server_.has(from)) return;
            if (!*made) return refuse(from, asked, made->error());
            if (auto ok = join(member_on_switch(std::move(**made), name, o), name, true); !ok) return refuse(from, asked, ok.error());
            answer(from, asked);
        };
    });
}

void board::remove(std::list<attached>::iterator at, std::function<void()> then) {
    at->stop_polling();
    loop_->remove(*at->what);
    const std::string place = at->what->place();
    if (switch_) (void)switch_->detach(place.substr(place.find(':') + 1));
    auto what = std::make_shared<std::shared_ptr<member>>(std::move(at->what));
    members_.erase(at);
    beside_.start([what, then]() -> background::after {
        what->reset();
        return then;
    });
}

/// detach NAME: an interface, with its host stack's part, or somebody's port.
void board::detach(client from, const control_message& m, const std::vector<std::string>& words) {
    const std::string full = name_ + ":" + words[1];
    const auto at = find(full);
    if (at == members_.end()) {
        if (!switch_) return refuse(from, m, EINVAL, name_ + " is no switch");
        for (const auto& p : ports_)
            if (p.what->name() == full) return refuse(from, m, EBUSY, full + " is open in process " + std::to_string(server_.pid(p.owner)) + "; close it there");
        return refuse(from, m, ENXIO, full + " is not attached");
    }
    if (at->made) return refuse(from, m, EINVAL, full + " is a persistent port; -r destroys it");
    if (at->thread.joinable()) return refuse(from, m, EBUSY, full + " is being polled; stop that first: -P " + full);
    const std::string interface = at->interface;
    const bool both = !words[1].ends_with('^');
    auto last = [this, from, asked = m.sequence] {
        control_message request;
        request.sequence = asked;
        answer(from, request);
    };
    if (const auto stack = find(full + "^"); both && stack != members_.end()) {
        if (stack->thread.joinable()) return refuse(from, m, EBUSY, full + "^ is being polled; stop that first: -P " + full + "^");
        remove(stack, {});
    }
    remove(find(full), last);
}

void board::destroy(client from, const control_message& m, const std::vector<std::string>& words) {
    const std::string full = name_ + ":" + words[1];
    const auto at = find(full);
    if (at == members_.end()) return refuse(from, m, ENXIO, "there is no persistent port " + full);
    if (!at->made) return refuse(from, m, EINVAL, full + " is an interface that was attached; -d detaches it");
    if (at->thread.joinable()) return refuse(from, m, EBUSY, full + " is being polled; stop that first: -P " + full);
    remove(at, [this, from, asked = m.sequence] {
        control_message request;
        request.sequence = asked;
        answer(from, request);
    });
}

/// poll NAME on CPU, poll NAME off
void board::poll(client from, const control_message& m, const std::vector<std::string>& words) {
    const std::string full = name_ + ":" + words[1];
    const auto at = find(full);
    if (at == members_.end()) return refuse(from, m, ENXIO, full + " is not attached; only interfaces are polled");
    if (words[2] == "off") {
        if (!at->thread.joinable()) return refuse(from, m, EFAULT, full + " is not being polled");
        at->stop_polling();
        if (auto ok = loop_->add(at->what); !ok) return refuse(from, m, ok.error());
        return answer(from, m);
    }
    if (at->made) return refuse(from, m, EOPNOTSUPP, full + " is a persistent port; interfaces are polled");
    if (at->thread.joinable()) return refuse(from, m, EFAULT, full + " is being polled already, by core " + std::to_string(at->cpu));
    const auto cores = std::thread::hardware_concurrency();
    const unsigned core = number(words[3], 0);
    if (core >= cores) return refuse(from, m, EINVAL, "there are cores 0 to " + std::to_string(cores - 1) + ", and no core " + std::to_string(core));
    at->poll_on(*loop_, static_cast<int>(core));
    answer(from, m);
}

void board::tick() {
    custody_.tick();
    using namespace std::chrono_literals;
    beside_.finish();
    if (clock::now() - looked_ < 200ms) return;
    looked_ = clock::now();
    for (auto at = members_.begin(); at != members_.end();) {
        auto next = std::next(at);
        if (at->what->lost()) {
            // Nobody visits it: it is lost until it is found.
            loop_->remove(*at->what);
            const int core = at->cpu;
            at->stop_polling();
            const auto ok = at->what->status();
            if (!ok && ok.error().code.value() != ENETDOWN) {
                log_(ok.error().text + "; it leaves the switch");
                remove(at, {});
            } else {
                if (ok) at->what->found();
                if (core >= 0) at->poll_on(*loop_, core);
                else if (ok) (void)loop_->add(at->what);
            }
        }
        at = next;
    }
}

}  // namespace host
