package main

import (
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// commands is the whole command line.
type commands struct {
	Config  string           `help:"Configuration file (YAML); env HONGYAN_CONFIG. None is needed where HONGYAN_REDIS_URL is set." placeholder:"FILE"`
	JSON    bool             `help:"Write JSON."`
	Version kong.VersionFlag `help:"Print the version."`

	Template  templateCommand  `cmd:"" group:"Messages" help:"Enqueue a template message (模板消息)."`
	Subscribe subscribeCommand `cmd:"" group:"Messages" help:"Enqueue a subscription notice (订阅通知)."`
	Custom    customCommand    `cmd:"" group:"Messages" help:"Enqueue a customer-service message (客服消息)."`
	Mass      massCommands     `cmd:"" group:"Messages" help:"Mass send (群发): send, status, preview, delete, speed."`
	Batch     batchCommand     `cmd:"" group:"Messages" help:"Enqueue a file of messages (JSON Lines)."`
	Event     eventCommand     `cmd:"" group:"Messages" help:"Report what users did (JSON Lines)."`
	Campaign  campaignCommands `cmd:"" group:"Messages" help:"Campaigns: a message to an audience, started by hand or by a schedule."`
	Status    statusCommand    `cmd:"" group:"Messages" help:"Say what became of a message."`
	Explain   explainCommand   `cmd:"" group:"Messages" help:"Say what holds a message and until when, or why it ended so."`
	Cancel    cancelCommand    `cmd:"" group:"Messages" help:"Cancel a message that is not on its way yet."`
	Replay    replayCommand    `cmd:"" group:"Messages" help:"Send ended messages again, each once, as new messages."`

	Media   mediaCommands   `cmd:"" group:"Accounts" help:"Temporary material (临时素材): upload."`
	Quota   quotaCommand    `cmd:"" group:"Accounts" help:"Show the day's quotas, ours and WeChat's."`
	Gates   gatesCommand    `cmd:"" group:"Accounts" help:"List the gates that are closed or broken."`
	Gate    gateCommands    `cmd:"" group:"Accounts" help:"Open or close a gate by hand."`
	Webhook webhookCommands `cmd:"" group:"Accounts" help:"Look after the endpoints that are told of outcomes."`
}

const description = `Puts messages for WeChat Official Accounts into Hongyan's queue.

Exit codes: 0 done, 1 failed, 2 bad input. A message with a --key may be enqueued again after any error: it is sent once.`

// options are how the command line looks.
func options() []kong.Option {
	return []kong.Option{
		kong.Name("enqueue"),
		kong.Description(description),
		kong.Vars{"version": "enqueue " + version()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{{Key: "Messages", Title: "Messages:"}, {Key: "Accounts", Title: "Accounts:"}}),
	}
}

// version is that of the module as it was built, or of the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && info.Main.Version == "(devel)" {
			return "(devel) " + setting.Value
		}
	}
	return info.Main.Version
}
