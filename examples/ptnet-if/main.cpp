// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// ptnet-if -i ptnet:0000:00:04.0 -n pt0: a port of any kind becomes a network interface of the system. Checksums and segmentation
// are left to whoever is at the other end, as far as the port has the virtio-net header.
#include <memory>

#include "common/idle.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/signals.hpp"
#include "joint.hpp"

namespace {

using namespace ptnet_if;

struct wish {
    std::string port, name;
    std::optional<tool::mac_address> mac;
    unsigned mtu = 1500;
};
struct settings {
    std::vector<wish> joints;
    unsigned header = 10;
    bool own_switch = false, json = false, csv = false;
    unsigned report_ms = 0;
    double seconds = 0;
    std::string metrics;
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

/// Moves frames until it is told to stop; `tick` is called a few times a second.
template <class Tick>
void run(std::vector<std::unique_ptr<joint>>& joints, double seconds, Tick tick) {
    const auto until = seconds > 0 ? nm::system_clock::now_ns() + static_cast<std::uint64_t>(seconds * 1e9) : ~std::uint64_t{0};
    tool::idle rest;
    std::vector<pollfd> fds;
    for (std::uint64_t now = 0, next = 0; !tool::told_to_end() && now < until; now = nm::system_clock::now_ns()) {
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
        tick();
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

/// All that is said of the joints while they work, and at the end.
class teller {
public:
    teller(std::vector<std::unique_ptr<joint>>& joints, const settings& s)
        : joints_(joints), s_(s), file_("ptnet-if", s.metrics), rows_(s.csv, looks()), next_(nm::system_clock::now_ns() + period()) {
        file_.interval([this](tool::metrics& m) { count(m); });  // one that cannot be written is said at once
    }
    void tick() {
        const auto now = nm::system_clock::now_ns();
        if ((s_.report_ms == 0 && !file_.wanted()) || now < next_) return;
        next_ += period() * ((now - next_) / period() + 1);
        if (s_.report_ms != 0) (void)say("interval");
        file_.interval([this](tool::metrics& m) { count(m); });
    }
    /// Whether the sums agree.
    [[nodiscard]] bool close() {
        const bool conserved = say("summary");
        file_.last([this](tool::metrics& m) { count(m); });
        return conserved;
    }

private:
    [[nodiscard]] std::uint64_t period() const noexcept { return (s_.report_ms == 0 ? 1000U : s_.report_ms) * std::uint64_t{1'000'000}; }
    [[nodiscard]] std::vector<tool::port_look> looks() {
        std::vector<tool::port_look> all;
        for (auto& j : joints_) all.push_back(j->look().look());
        return all;
    }
    void count(tool::metrics& m) {
        for (auto& j : joints_) j->look().count(m);
    }
    bool say(const char* type) {
        const bool last = std::string_view(type) == "summary";
        bool conserved = true;
        std::string table = account::title(), list;
        for (auto& j : joints_) {
            const account a = j->look();
            conserved = conserved && a.conserved();
            table += a.lines(last);
            list += (list.empty() ? "" : ", ") + a.to_json(last).text();
        }
        if (!last || s_.json || s_.csv || file_.on_stdout()) tool::print_err(table);
        else tool::print_out(table);
        if (s_.json) {
            auto j = tool::json().add("type", type).raw("joints", "[" + list + "]");
            if (last) j.add("conserved", conserved);
            tool::print_out(j.text() + "\n");
        }
        rows_.print(looks());
        return conserved;
    }

    std::vector<std::unique_ptr<joint>>& joints_;
    const settings& s_;
    tool::metrics_file file_;
    tool::port_rows rows_;
    std::uint64_t next_;
};

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
    {'T', "report", "MS", "the sums every so many milliseconds, on stderr (default: none)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout", [](settings& s, text) { s.json = true; }},
    {0, "csv", "", "a row per interface and report, and at the end, on stdout, as valectl's", [](settings& s, text) { s.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

int run(const settings& s) {
    if (s.json + s.csv + (s.metrics == "-") > 1) throw tool::usage_error("--json, --csv and --metrics - all want stdout; choose one");
    tool::listen_for_the_end();
    nm::context ctx;
    std::vector<std::unique_ptr<joint>> joints;
    for (std::size_t i = 0; i < s.joints.size(); ++i) joints.push_back(open(ctx, s, i));
    teller books(joints, s);
    tool::print_err(fmt::format("ptnet-if: {} joined\n", joints.size()));
    std::string failure;
    try {
        run(joints, s.seconds, [&books] { books.tick(); });
    } catch (const tool::run_error& e) {
        failure = e.what();  // the sums come first
    }
    const bool conserved = books.close();
    if (!failure.empty()) throw tool::run_error(failure);
    tool::require_conserved(conserved);
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
