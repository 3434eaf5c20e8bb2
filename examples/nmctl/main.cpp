// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nmctl bind eth1: takes a network device from the kernel's driver, so that a program may open it by VFIO, and gives it back.
#include <span>

#include "bind.hpp"
#include "common/main.hpp"
#include "common/open.hpp"

namespace {

using nmctl::settings;
using text = std::string_view;

constexpr tool::option<settings> options[] = {
    {0, "kernel", "", "bind: back to the kernel's own driver, as unbind does", [](settings& s, text) { s.kernel = true; }},
    {0, "force", "", "bind: also what carries the default route, and what is not a network device",
     [](settings& s, text) { s.force = true; }},
    {0, "json", "", "one JSON object on stdout", [](settings& s, text) { s.json = true; }},
};

constexpr tool::about self{
    .name = "nmctl",
    .usage = "nmctl bind                             which network devices there are, and who has them\n"
             "nmctl bind [--force] DEVICE...         gives them to vfio-pci, so that a program may open netmap:ADDRESS\n"
             "nmctl unbind DEVICE...                 gives them back to the kernel",
    .purpose = "A DEVICE is a PCI address (0000:03:00.0), or an interface (eth1). Its interface vanishes while vfio-pci has it, until it is\n"
               "given back or the machine starts anew.\n",
    .commands = "bind|unbind",
    .operand = "DEVICE",
};

void settle(settings& s) {
    if (s.command.empty()) throw tool::usage_error("say what to do: nmctl bind shows who has which device");
    if (s.command != "bind" && s.command != "unbind") throw tool::usage_error("\"" + s.command + "\" is no command of this program");
    s.kernel = s.kernel || s.command == "unbind";
    if (s.kernel && s.devices.empty()) throw tool::usage_error("say which devices to give back; nmctl bind shows them");
    if (s.force && s.kernel) throw tool::usage_error("--force is for taking a device, not for giving it back");
    if (s.force && s.devices.empty()) throw tool::usage_error("--force is for a device; say which");
}

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) {
        settle(s);
        return s.devices.empty() ? nmctl::show(s) : nmctl::bind(s);
    });
}
