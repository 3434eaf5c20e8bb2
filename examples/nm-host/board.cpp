// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "board.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "common/metrics.hpp"

#include "nm/ptnet/hand_over.hpp"
#include "nm/version.hpp"

namespace host {

using namespace std::chrono_literals;

// Rule R7: one port, one client, and all of them.
constexpr std::size_t most_bytes = std::size_t{512} << 20;
constexpr std::size_t ports_of_client = 16, most_ports = 254;

std::size_t half_of_memory() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) / 2 * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

board::board(control_server& server, std::string name, std::function<void(const std::string&)> log)
    : server_(server), name_(std::move(name)), log_(std::move(log)), custody_(server) {
    if (name_.starts_with("vale")) {
        auto sw = nm::vale::vale_switch<>::create(ctx_, name_);
        if (!sw) throw tool::run_error(sw.error().text);
        switch_.emplace(std::move(*sw));
    }
    auto loop = nm::ptnet::sync_loop::create();
    if (!loop) throw tool::run_error(loop.error().text);
    loop_ = std::move(*loop);
    thread_ = std::jthread([this](const std::stop_token& stop) { loop_->run(stop); });
}

board::~board() {
    for (auto& m : members_) m.stop_polling();
    thread_ = {};
}

bool board::empty() const noexcept { return ports_.empty() && members_.empty() && custody_.empty() && !waiting(); }

void board::answer(client to, const control_message& m, std::string text) {
    control_message a;
    a.type = nm::sys::control_type::answer;
    a.sequence = m.sequence;
    a.payload = std::move(text);
    a.payload.resize(std::min(a.payload.size(), control_message::max_payload));
    server_.send(to, a);
}

void board::refuse(client to, const control_message& m, int status, const std::string& why) {
    decline(to, m, status, why);
    log_("refused: " + why);
}

void board::decline(client to, const control_message& m, int status, const std::string& why) {
    control_message a;
    a.type = nm::sys::control_type::answer;
    a.sequence = m.sequence;
    a.status = status != 0 ? status : EIO;
    a.payload = why.substr(0, control_message::max_payload);
    server_.send(to, a);
}

void board::message(client from, control_message m) {
    using nm::sys::control_type;
    last_ = clock::now();
    switch (m.type) {
        case control_type::open: open(from, m); break;
        case control_type::claim: custody_.claim(from, std::move(m)); break;
        case control_type::update: custody_.update(from, m); break;
        case control_type::release: custody_.release(from, m); break;
        case control_type::command: obey(from, m); break;
        default: refuse(from, m, EOPNOTSUPP, "that is no request that a host knows"); break;
    }
}

void board::gone(client who) {
    last_ = clock::now();
    custody_.gone(who);
    for (auto at = ports_.begin(); at != ports_.end();) {
        if (at->owner != who) {
            ++at;
            continue;
        }
        loop_->remove(*at->what);
        at = ports_.erase(at);
    }
}

/// "vale1:a", if it is of this switch.
nm::result<std::string> board::own_port(std::string_view text) const {
    if (!switch_) return nm::fail(EINVAL, name_ + " is no switch, whose name would begin with \"vale\"; it is the host of pipes");
    const auto colon = text.find(':');
    if (text.substr(0, colon) != name_ || colon == text.npos) return nm::fail(EINVAL, "\"" + std::string(text.substr(0, 64)) + "\" is no port of " + name_);
    return std::string(text.substr(colon + 1));
}

namespace {
using kinds = nm::port_list<nm::vale_port, nm::monitor>;
}

nm::result<board::served> board::serve(client from, const control_message& m) {
    const auto wish = m.words<nm::sys::port_wish>();
    if (!wish) return nm::fail(EINVAL, "who opens a port says how");
    if (auto own = own_port(m.name); !own) return forward_error(own);
    std::size_t all = 0, of_client = 0;
    for (const auto& p : ports_) {
        all += p.memory->size();
        if (p.owner == from) ++of_client;
    }
    if (ports_.size() == most_ports || of_client == ports_of_client)
        return nm::fail(ENOSPC, fmt::format("{} serves up to {} ports, {} of them by one connection", name_, most_ports, ports_of_client));
    nm::ptnet::host_options o;
    const auto set = [](std::optional<unsigned>& to, std::uint32_t v) {
        if (v != 0) to = v;
    };
    set(o.open.tx_rings, wish->tx_rings);
    set(o.open.rx_rings, wish->rx_rings);
    set(o.open.tx_slots, wish->tx_slots);
    set(o.open.rx_slots, wish->rx_slots);
    o.open.extra_bufs = std::min(wish->extra_bufs, 65536U);
    o.open.exclusive = wish->exclusive != 0;
    const auto name = nm::parse_port(m.name);
    if (!name) return nm::fail(EINVAL, name.error().text);
    if (name->exclusive) o.open.exclusive = true;
    for (const auto& s : ports_)
        if (s.what->name() == name->name && !name->monitor())
            return nm::fail(EBUSY, name->name + " is open in process " + std::to_string(server_.pid(s.owner)) +
                                       "; a port of a switch has one user, and a switch has room for more ports");
    const auto bytes = nm::ptnet::memory_for<kinds>(ctx_, m.name, o);
    if (!bytes) return nm::fail(bytes.error().code.value(), bytes.error().text);
    if (*bytes > most_bytes) return nm::fail(ENOMEM, fmt::format("{} would take {} MB of memory; a port may have {}: ask for fewer rings or slots", m.name, *bytes >> 20, most_bytes >> 20));
    if (all + *bytes > half_of_memory()) return nm::fail(ENOMEM, fmt::format("{} serves ports with {} MB of memory; half of the machine's is the most", name_, all >> 20));
    auto memory = nm::ptnet::host_memory::create(*bytes);
    if (!memory) return forward_error(memory);
    auto port = nm::ptnet::serve<kinds>(ctx_, *memory, m.name, o);
    if (!port) return forward_error(port);
    return served{from, std::shared_ptr<nm::ptnet::service>(std::move(*port)), std::move(*memory)};
}

bool board::holds(client who) const noexcept {
    for (const auto& p : ports_)
        if (p.owner == who) return true;
    return custody_.held_by(who) != 0;
}

void board::open(client from, const control_message& m) {
    auto made = serve(from, m);
    if (!made) return refuse(from, m, made.error());
    std::shared_ptr<nm::base::kernel_bell> bell;
    if (m.words<nm::sys::port_wish>()->eventfds != 0) {
        if (!bell_) {
            auto rung = nm::base::kernel_bell::make();
            if (!rung) return refuse(from, m, rung.error());
            bell_ = std::move(*rung);
        }
        bell = bell_;
    }
    auto told = nm::ptnet::hand_over(*made->what, *made->memory, bell);
    if (!told) return refuse(from, m, told.error());
    if (auto ok = loop_->add(made->what); !ok) return refuse(from, m, ok.error());
    told->answer.sequence = m.sequence;
    ports_.push_back(std::move(*made));
    server_.hold(from, true);
    server_.send(from, told->answer, told->fds);
}

void board::obey(client from, const control_message& m) {
    static constexpr std::pair<std::string_view, command> commands[] = {
        {"host", &board::host_info}, {"item", &board::item},     {"attach", &board::attach},  {"create", &board::create},
        {"detach", &board::detach},  {"destroy", &board::destroy}, {"poll", &board::poll},
    };
    std::vector<std::string> words;
    for (std::size_t at = 0; at < m.payload.size() && words.size() < 8;) {
        const auto end = std::min(m.payload.find(' ', at), m.payload.size());
        words.push_back(m.payload.substr(at, end - at));
        at = end + 1;
    }
    words.resize(8);
    for (const auto& [word, what] : commands)
        if (word == words[0]) return (this->*what)(from, m, words);
    refuse(from, m, EOPNOTSUPP, "\"" + words[0].substr(0, 32) + "\" is nothing that this host can do (nm " NM_VERSION_STRING ")");
}

void board::host_info(client from, const control_message& m, const std::vector<std::string>&) {
    std::string text = fmt::format("name {}\npid {}\nversion {}\nnum_ports {}\nclients {}\n", name_, ::getpid(), NM_VERSION_STRING,
                                   ports_.size() + members_.size() + custody_.items().size(), server_.clients());
    if (switch_) {
        const auto s = switch_->stats();
        text += fmt::format("accepted {}\nreplicas {}\ndelivered {}\ndropped {}\nstations {}\nconserved {}\n", s.accepted, s.replicas, s.delivered, s.dropped(),
                            switch_->lookup().stats().learnt, s.conserved() ? 1 : 0);
    }
    answer(from, m, std::move(text));
}

namespace {
/// "full=3,policy=1": all causes in one field, since an answer has a limit.
std::string drops(const nm::counters& c) {
    std::string text;
    for (std::size_t i = 0; i < nm::causes; ++i)
        if (c.drops[i] != 0) text += fmt::format("{}{}={}", text.empty() ? "" : ",", tool::cause_label(i), c.drops[i]);
    return text;
}
}  // namespace

std::string board::describe(const nm::vale::port_stats& s) {
    return fmt::format("number {}\nfrom_port_frames {}\nfrom_port_bytes {}\nfrom_port_dropped {}\nfrom_port_drops {}\n"
                       "to_port_frames {}\nto_port_bytes {}\nto_port_dropped {}\nto_port_drops {}\nfloods {}\n",
                       s.number, s.tx.frames, s.tx.bytes, s.tx.dropped(), drops(s.tx), s.rx.frames, s.rx.bytes, s.rx.dropped(), drops(s.rx), s.floods);
}

std::string board::describe(const attached& a) const {
    const auto& i = a.what->info();
    const auto in = a.what->received(), out = a.what->sent();
    return fmt::format("interface {}\nmode {}\nmade {}\nlost {}\npolling_cpu {}\ndevice_in {}\ndevice_in_dropped {}\ndevice_in_drops {}\n"
                       "device_out {}\ndevice_out_dropped {}\ndevice_out_drops {}\n",
                       a.interface, i.mode, a.made ? 1 : 0, a.what->lost() ? 1 : 0, a.cpu, in.frames, in.dropped(), drops(in), out.frames, out.dropped(), drops(out));
}

/// The port of that number, or of that name; then what is kept for pipes.
void board::item(client from, const control_message& m, const std::vector<std::string>& words) {
    std::size_t wanted = ~std::size_t{0};
    const auto& w = words[1];
    const bool by_number = std::from_chars(w.data(), w.data() + w.size(), wanted).ptr == w.data() + w.size() && !w.empty();
    std::size_t n = 0;
    if (switch_) {
        for (const auto& s : switch_->ports()) {
            const std::string full = name_ + ":" + s.name;
            if (by_number ? n++ != wanted : w != full) continue;
            std::string text = "name " + full + "\n";
            if (const auto at = find(full); at != members_.end()) {
                text += fmt::format("kind {}\n", at->made ? "persistent" : s.name.ends_with('^') ? "stack" : "interface") + describe(*at);
            } else {
                text += "kind port\n";
                for (const auto& p : ports_)
                    if (p.what->name() == full) {
                        const auto c = p.what->stats();
                        text += fmt::format("pid {}\ntx_rings {}\nrx_rings {}\ntx_slots {}\nrx_slots {}\nrunning {}\nkicks {}\nwakes {}\nbad_indexes {}\n", server_.pid(p.owner),
                                            p.what->info().tx_rings, p.what->info().rx_rings, p.what->info().tx_slots, p.what->info().rx_slots, c.running ? 1 : 0,
                                            c.kicks, c.wakes, c.bad_indexes);
                    }
            }
            return answer(from, m, text + describe(s));
        }
    }
    for (const auto& [name, i] : custody_.items()) {
        if (by_number ? n++ != wanted : w != name) continue;
        return answer(from, m, fmt::format("name {}\nkind pipe\nmaster_pid {}\nslave_pid {}\n", name, server_.pid(i.holder[0]), server_.pid(i.holder[1])));
    }
    // That is how who lists them finds the end.
    if (by_number) return decline(from, m, ENOENT, name_ + " has no more ports");
    refuse(from, m, ENOENT, "there is no port " + w);
}

std::list<attached>::iterator board::find(const std::string& place) noexcept {
    auto at = members_.begin();
    while (at != members_.end() && at->what->place() != place) ++at;
    return at;
}

}  // namespace host
