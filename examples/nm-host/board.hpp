// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The host of one name: its switch, the ports of it that other processes use, its members, and what is kept for pipes.

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "background.hpp"
#include "common/failure.hpp"
#include "custody.hpp"
#include "member.hpp"

#include "nm/ptnet/host.hpp"

namespace host {

using nm::sys::control_message;
using nm::sys::control_server;

class board final : public control_server::handler {
public:
    using client = control_server::client;

    board(control_server& server, std::string name, std::function<void(const std::string&)> log);
    ~board() override;

    void message(client from, control_message m) override;
    void gone(client who) override;
    /// Now and then: what was done beside, members whose link came back or that have gone.
    void tick();
    /// Nothing is left that anybody would miss.
    [[nodiscard]] bool empty() const noexcept;
    /// Since something was asked for last.
    [[nodiscard]] std::chrono::milliseconds quiet() const noexcept {
        return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - last_);
    }
    [[nodiscard]] bool waiting() const { return beside_.pending() != 0; }

private:
    struct served {
        client owner;
        std::shared_ptr<nm::ptnet::service> what;
        std::shared_ptr<nm::ptnet::host_memory> memory;
    };
    using command = void (board::*)(client, const control_message&, const std::vector<std::string>&);
    using clock = std::chrono::steady_clock;

    void answer(client to, const control_message& m, std::string text = {});
    void refuse(client to, const control_message& m, int status, const std::string& why);
    /// The same without a line in the log: nothing is wrong.
    void decline(client to, const control_message& m, int status, const std::string& why);
    void refuse(client to, const control_message& m, const nm::error& e) { refuse(to, m, e.code.value(), e.text); }
    [[nodiscard]] nm::result<std::string> own_port(std::string_view text) const;

    /// Whether something of its would be lost with it.
    [[nodiscard]] bool holds(client who) const noexcept;

    void open(client from, const control_message& m);
    [[nodiscard]] nm::result<served> serve(client from, const control_message& m);
    void obey(client from, const control_message& m);
    void host_info(client from, const control_message& m, const std::vector<std::string>& words);
    void item(client from, const control_message& m, const std::vector<std::string>& words);
    [[nodiscard]] bool busy(client from, const control_message& m);
    void attach(client from, const control_message& m, const std::vector<std::string>& words);
    void create(client from, const control_message& m, const std::vector<std::string>& words);
    void detach(client from, const control_message& m, const std::vector<std::string>& words);
    void destroy(client from, const control_message& m, const std::vector<std::string>& words);
    void poll(client from, const control_message& m, const std::vector<std::string>& words);

    [[nodiscard]] nm::result<void> join(nm::result<std::shared_ptr<member>> made, const std::string& interface, bool is_made);
    template <class P>
    [[nodiscard]] nm::result<std::shared_ptr<member>> member_on_switch(P port, const std::string& as, const nm::open_options& o);
    [[nodiscard]] std::list<attached>::iterator find(const std::string& place) noexcept;
    /// Takes it off the switch at once; its device is closed beside, and `then` is called.
    void remove(std::list<attached>::iterator at, std::function<void()> then);
    [[nodiscard]] std::string describe(const nm::vale::port_stats& s);
    [[nodiscard]] std::string describe(const attached& a) const;

    control_server& server_;
    std::string name_;
    std::function<void(const std::string&)> log_;
    nm::context ctx_, devices_;  // devices are opened meanwhile, under a lock of their own
    std::optional<nm::vale::vale_switch<>> switch_;
    std::unique_ptr<nm::ptnet::sync_loop> loop_;
    std::shared_ptr<nm::base::kernel_bell> bell_;  // for guests of KVM
    std::list<served> ports_;
    std::list<attached> members_;
    custodian custody_;
    background beside_;
    clock::time_point last_ = clock::now(), looked_ = clock::now();
    std::jthread thread_;
};

}  // namespace host
