// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// ptnet-if -i ptnet:0000:00:04.0 -n pt0: a port of any kind becomes a network interface of the system. Checksums and segmentation
// are left to whoever is at the other end, as far as the port has the virtio-net header.
#include <csignal>
#include <memory>

#include "common/idle.hpp"
#include "common/main.hpp"
#include "joint.hpp"

namespace {

using namespace ptnet_if;
volatile std::sig_atomic_t stopped = 0;

struct wish {
    std::string port, name;
    std::optional<tool::mac_address> mac;
    unsigned mtu = 1500;
};
struct settings {
    std::vector<wish> joints;
    unsigned header = 10;
    bool own_switch = false, json = false;
    double seconds = 0;
};

template <class P, class... Q>
auto with(nm::port_list<Q...>) -> std::conditional_t<(std::is_same_v<P, Q> || ...), nm::port_list<Q...>, nm::port_list<P, Q...>>;
using ports = decltype(with<nm::ptnet_port>(tool::ports{}));

template <class P>
[[nodiscard]] std::unique_ptr<joint> join(P port, const wish& w, unsigned header, std::size_t number) {
    if (port.num_tx_rings() == 0 || port.num_rx_rings() == 0) throw tool::run_error(port.name() + " has no rings for one of the directions; an interface needs both");
    const auto mac = w.mac ? w.mac : tool::mac_of(port);
    if constexpr (!may_have_header<P>) header = 0;
    stack_interface stack(w.name.empty() ? "pt" + std::to_string(number) : w.name, mac.value_or(stack_interface::any_mac()), w.mtu);
    tool::print_err(fmt::format("{}: {} ({}), {}\n", stack.name(), port.name(), port.mode(),
                                header != 0 ? fmt::format("virtio-net header of {} bytes", header) : "no virtio-net header: checksums and segments are made here"));
    return std::make_unique<joint_of<P>>(std::move(port), std::move(stack), header, w.mtu);
}

[[nodiscard]] std::unique_ptr<joint> open(nm::context& ctx, const settings& s, std::size_t number) {
    const wish& w = s.joints[number];
    nm::open_options o;
    o.vnet_hdr = s.header;
    o.timestamps = false;
    // A switch drops what there is no room for, and what TCP sends at once is some of its largest frames, of 32 slots each.
    if (tool::spec_of(w.port).kind == nm::port_kind::vale) o.rx_slots = 4096, o.tx_slots = 1024;
    if (s.own_switch && tool::spec_of(w.port).kind == nm::port_kind::vale) return join(nm::open<nm::vale_port>(ctx, w.port, o), w, s.header, number);
    auto port = nm::try_open<ports>(ctx, w.port, o);
    const bool headless = !port && port.error().code.value() == EOPNOTSUPP && s.header != 0;
    if (headless) {
        o.vnet_hdr = 0;
        port = nm::try_open<ports>(ctx, w.port, o);
    }
    if (!port) throw tool::run_error(port.error().text);
    return std::visit([&]<class P>(P& p) { return join(std::move(p), w, headless ? 0 : s.header, number); }, *port);
}

/// Moves frames until it is told to stop.
void run(std::vector<std::unique_ptr<joint>>& joints, double seconds) {
    const auto until = seconds > 0 ? nm::system_clock::now_ns() + static_cast<std::uint64_t>(seconds * 1e9) : ~std::uint64_t{0};
    tool::idle rest;
    std::vector<pollfd> fds;
    for (std::uint64_t now = 0, next = 0; stopped == 0 && now < until; now = nm::system_clock::now_ns()) {
        nm::index_t moved = 0;
        for (auto& j : joints) moved += j->round();
        if (moved != 0) rest.busy();
        else if (rest.should_sleep()) {
            fds.clear();
            for (auto& j : joints) j->arm(fds);
            (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
        }
        if (now < next) continue;
        for (auto& j : joints) j->tend();
        next = now + 50'000'000;
    }
    // What was taken from the stack goes out.
    for (auto& j : joints) j->finish();
    for (int i = 0; i < 200; ++i) {
        bool idle = true;
        for (auto& j : joints) idle = (void(j->round()), j->idle()) && idle;
        if (idle) break;
        tool::idle::nap();
    }
}

[[nodiscard]] bool summary(std::vector<std::unique_ptr<joint>>& joints, bool json) {
    bool conserved = true;
    std::string table = account::title(), list;
    for (auto& j : joints) {
        const account a = j->look();
        conserved = conserved && a.conserved();
        table += a.lines();
        list += (list.empty() ? "" : ", ") + a.to_json().text();
    }
    if (!json) return tool::print_out(table), conserved;
    tool::print_err(table);
    tool::print_out(tool::json().add("type", "summary").raw("joints", "[" + list + "]").add("conserved", conserved).text() + "\n");
    return conserved;
}

[[nodiscard]] wish& last(settings& s) {
    if (s.joints.empty()) throw tool::usage_error("it belongs to the -i before it, and there is none");
    return s.joints.back();
}

using text = std::string_view;
constexpr tool::option<settings> options[] = {
    {'i', "port", "PORT", "the port: ptnet:0000:00:04.0, vale1:a, netmap:p{1 ...; with several, -n, -m and -M are about the one before",
     [](settings& s, text v) { s.joints.push_back({tool::checked_port(v), {}, {}, 1500}); }},
    {'n', "name", "NAME", "the interface's name (default pt0, pt1 ...)",
     [](settings& s, text v) {
         if (v.empty() || v.size() > 15 || v.find_first_of("/ %:") != text::npos) throw tool::usage_error("\"" + std::string(v) + "\" is no name of an interface");
         last(s).name = v;
     }},
    {'m', "mac", "MAC", "its address (default: the port's, or one made up)", [](settings& s, text v) { last(s).mac = tool::parse_mac(v); }},
    {'M', "mtu", "BYTES", "its MTU (default 1500)", [](settings& s, text v) { last(s).mtu = tool::parse_unsigned(v, 68, 65521); }},
    {'H', "header", "BYTES", "the virtio-net header to ask the port for: 10 (default), 12, or 0 for none",
     [](settings& s, text v) {
         s.header = tool::parse_unsigned(v, 0, 12);
         if (s.header != 0 && s.header != 10 && s.header != 12) throw tool::usage_error("a virtio-net header has 10 or 12 bytes, or there is none (0)");
     }},
    {0, "own-switch", "", "valeNAME:PORT are ports of a switch in this program, and of no other", [](settings& s, text) { s.own_switch = true; }},
    {0, "time", "SECONDS", "end after so long (default: on SIGINT or SIGTERM)", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "json", "", "one JSON object at the end, on stdout", [](settings& s, text) { s.json = true; }},
};

int run(const settings& s) {
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });
    std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is told in a sentence
    nm::context ctx;
    std::vector<std::unique_ptr<joint>> joints;
    for (std::size_t i = 0; i < s.joints.size(); ++i) joints.push_back(open(ctx, s, i));
    tool::print_err(fmt::format("ptnet-if: {} joined\n", joints.size()));
    std::string failure;
    try {
        run(joints, s.seconds);
    } catch (const tool::run_error& e) {
        failure = e.what();  // the sums come first
    }
    const bool conserved = summary(joints, s.json);
    if (!failure.empty()) throw tool::run_error(failure);
    if (!conserved) throw tool::run_error("the sums do not agree: frames were lost without being counted; please report this");
    return tool::exit_ok;
}

constexpr tool::about self{
    .name = "ptnet-if",
    .usage = "ptnet-if -i PORT [-n NAME] [-m MAC] [-M MTU] [-i PORT ...] [OPTIONS]",
    .purpose = "Makes a port of any kind a network interface of the system.\n",
    .built_in = [] { return fmt::format("ports: {}", ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) {
        if (s.joints.empty()) throw tool::usage_error("no port given; say -i ptnet:0000:00:04.0");
        return run(s);
    });
}
