# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pgate_global_optspecs
    string join \n server= output= q/quiet v/verbose no-input h/help V/version
end

function __fish_pgate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pgate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pgate_using_subcommand
    set -l cmd (__fish_pgate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pgate -n "__fish_pgate_needs_command" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_needs_command" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_needs_command" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_needs_command" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_needs_command" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_needs_command" -s V -l version -d 'Print version'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "login" -d 'Log in to the control plane with your identity provider'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "logout" -d 'Forget the login for the control plane'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "whoami" -d 'Show who the control plane says you are'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "targets" -d 'List the targets and roles that you may ask for'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "request" -d 'Ask for access to a target'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "grants" -d 'List, show and revoke your grants'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "inbox" -d 'List what waits for your review: requests for grants, and held statements'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "approve" -d 'Approve a request for a grant, or a held statement'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "deny" -d 'Deny a request for a grant, or a held statement'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "connect" -d 'Run a command, or open a port, with a database session under a grant'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "doctor" -d 'Check everything that pgate needs, and show every setting with its source'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "sessions" -d 'List and show sessions: your own, and those that you may review'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "replay" -d 'Show what happened in a session: statements, verdicts, rows and times'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "log" -d 'Verify, export and upload session logs'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "policy" -d 'Check, explain, test and compare policies'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "serve" -d 'Run the control plane: grants, approvals, policy, credentials, session logs'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "demo" -d 'See the whole product work, on a real PostgreSQL, on this machine only'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c pgate -n "__fish_pgate_needs_command" -f -a "man" -d 'Print pgate\'s man page, or write all of them'
complete -c pgate -n "__fish_pgate_using_subcommand login" -l issuer -d 'The issuer to log in with, where the server knows several' -r
complete -c pgate -n "__fish_pgate_using_subcommand login" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand login" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand login" -l no-browser -d 'Show the URL and open no browser'
complete -c pgate -n "__fish_pgate_using_subcommand login" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand login" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand login" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand logout" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand logout" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand logout" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand logout" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand logout" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand whoami" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand targets" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand targets" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand targets" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand targets" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand targets" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand targets" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand request" -l role -d 'The role [env: PGATE_ROLE]' -r
complete -c pgate -n "__fish_pgate_using_subcommand request" -l reason -d 'Why you need it; reviewers and the session log see this' -r
complete -c pgate -n "__fish_pgate_using_subcommand request" -l ttl -d 'For how long, such as 30m or 1h; the role\'s own lifetime by default' -r
complete -c pgate -n "__fish_pgate_using_subcommand request" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand request" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand request" -l no-wait -d 'Don\'t wait for a reviewer'
complete -c pgate -n "__fish_pgate_using_subcommand request" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand request" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand request" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand request" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -f -a "list" -d 'List your grants, newest first'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -f -a "show" -d 'Show one grant: who decided, and until when it lasts'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and not __fish_seen_subcommand_from list show revoke" -f -a "revoke" -d 'Take a grant back; its sessions end at once'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -l active -d 'Only those that can be used now'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -l comment -d 'Why' -r
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand grants; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List what waits for your review'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Show one request or held statement: who asks, why, and what exactly would run'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand inbox; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand approve" -l comment -d 'What you want to say about it' -r
complete -c pgate -n "__fish_pgate_using_subcommand approve" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand approve" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand approve" -l same-statements -d 'Approve every statement of this shape, whatever its values, until the session ends (held statements only)'
complete -c pgate -n "__fish_pgate_using_subcommand approve" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand approve" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand approve" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand approve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand deny" -l comment -d 'What you want to say about it' -r
complete -c pgate -n "__fish_pgate_using_subcommand deny" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand deny" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand deny" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand deny" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand deny" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand deny" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l role -d 'The role; needed where no active grant says it' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l reason -d 'Why, for the reviewer and the log; needed where a grant must be requested' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l ttl -d 'How long a newly requested grant lasts (90s, 30m, 1h30m)' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l grant -d 'Use this grant' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l port -d 'Listen on this TCP port of 127.0.0.1; CMD is then given TCP, not the socket' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l socket-dir -d 'Make the socket\'s folder inside this one' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand connect" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand connect" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand connect" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand connect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List sessions, newest first'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Show one session'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -l limit -d 'So many at most' -r
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand sessions; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand replay" -l speed -d 'Play so many times as fast' -r
complete -c pgate -n "__fish_pgate_using_subcommand replay" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand replay" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand replay" -l no-wait -d 'Print everything at once, as it is where stdout is not a terminal'
complete -c pgate -n "__fish_pgate_using_subcommand replay" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand replay" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand replay" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -f -a "verify" -d 'Check that a session log is as pgate wrote it and as the control plane received it'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -f -a "export" -d 'Write a session\'s log to stdout, as the control plane has it'
complete -c pgate -n "__fish_pgate_using_subcommand log; and not __fish_seen_subcommand_from verify export upload" -f -a "upload" -d 'Upload the logs that earlier runs could not, or did not live to'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -l key -d 'The control plane\'s public keys: a file with a JSON Web Key or a set of them, or the server\'s URL' -r
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand log; and __fish_seen_subcommand_from upload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -f -a "check" -d 'Check policy files, and with --target whether a database holds what they promise'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -f -a "explain" -d 'Show what the policy says of a statement, and why'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -f -a "test" -d 'Hold a policy to cases: statements with the verdicts that it must give'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -f -a "diff" -d 'Show which statements another policy decides otherwise'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and not __fish_seen_subcommand_from check explain test diff catalog" -f -a "catalog" -d 'Save a database\'s catalog, for explain, test and diff where the database is out of reach'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l target -d 'The target of the policy' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l database-url-file -d 'A file with the URL of the connection to use instead of the target\'s own credential; a role that may only read is enough [env: PGATE_DATABASE_URL]' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l catalog -d 'Examine a catalog that `pgate policy catalog` has saved, instead of the database' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l no-sample -d 'Judge columns by their names alone; look at no row'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l strict -d 'Fail on warnings too'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l role -d 'The role' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l sql -d 'The SQL' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l at -d 'When it would run, for rules with hours or days [default: now]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l rows -d 'How many rows PostgreSQL is taken to expect, for rules with `rows > N` [default: open]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l target -d 'The target of the policy' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l database-url-file -d 'A file with the URL of the connection to use instead of the target\'s own credential; a role that may only read is enough [env: PGATE_DATABASE_URL]' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l catalog -d 'A catalog that `pgate policy catalog` has saved, instead of the database' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l role -d 'Decide under this role only; may be given several times' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l target -d 'The target of the policy' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l database-url-file -d 'A file with the URL of the connection to use instead of the target\'s own credential; a role that may only read is enough [env: PGATE_DATABASE_URL]' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l catalog -d 'A catalog that `pgate policy catalog` has saved, instead of the database' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l target -d 'The target of the policy' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l database-url-file -d 'A file with the URL of the connection to use instead of the target\'s own credential; a role that may only read is enough [env: PGATE_DATABASE_URL]' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l to -d 'Write it to this file instead of stdout' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand policy; and __fish_seen_subcommand_from catalog" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand serve" -l config -d 'The configuration file' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand serve" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand serve" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand serve" -l check -d 'Only read the configuration and the policy, and say what is wrong with them'
complete -c pgate -n "__fish_pgate_using_subcommand serve" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand serve" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand serve" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand demo" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand demo" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand demo" -l stay -d 'Start everything, say what to type in another terminal, and stay until Ctrl-C'
complete -c pgate -n "__fish_pgate_using_subcommand demo" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand demo" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand demo" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand completions" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand completions" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand completions" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand completions" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand completions" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgate -n "__fish_pgate_using_subcommand man" -l dir -d 'Write the pages of pgate and of every subcommand into this folder' -r -F
complete -c pgate -n "__fish_pgate_using_subcommand man" -l server -d 'The control plane\'s URL [env: PGATE_SERVER]' -r
complete -c pgate -n "__fish_pgate_using_subcommand man" -l output -d 'The form of results [env: PGATE_OUTPUT] [default: text]' -r -f -a "text\t'For people'
json\t'One JSON object, or one event a line, on stdout'"
complete -c pgate -n "__fish_pgate_using_subcommand man" -s q -l quiet -d 'Say nothing but results and errors'
complete -c pgate -n "__fish_pgate_using_subcommand man" -s v -l verbose -d 'Say more on stderr (-vv: much more)'
complete -c pgate -n "__fish_pgate_using_subcommand man" -l no-input -d 'Never ask anything, never open a browser'
complete -c pgate -n "__fish_pgate_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
