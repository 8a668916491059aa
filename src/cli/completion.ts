import { Argument, type Command } from 'commander'
import type { Register } from './context.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

export const registerCompletion: Register = (program, world, done) => {
  program
    .command('completion')
    .description('print a completion script, such as for: source <(arcus completion bash)')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => {
      world.stdout.write(SCRIPTS[shell](program))
      done(0)
    })
}

const optionsOf = (command: Command): string[] =>
  command.options.flatMap((it) => [it.long, it.short]).filter((it) => it !== null && it !== undefined)
const plain = (text: string): string => text.replaceAll("'", '’')

// Commands whose first word is a kind, and whose second is a name of that kind.
const OF_KINDS = ['get', 'describe', 'delete', 'watch', 'explain']
// Commands whose word is a workload.
const OF_WORKLOADS = ['restart', 'logs', 'exec', 'stats']

const SCRIPTS: Record<Shell, (program: Command) => string> = {
  bash: (program) => {
    const commands = program.commands.map((it) => it.name())
    const cases = program.commands.map((it) => {
      const subcommands = it.commands.map((one) => one.name())
      return `    ${it.name()}) options='${[...optionsOf(it), ...optionsOf(program), ...subcommands].join(' ')}' ;;`
    })
    return `_arcus() {
  local word=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]} options=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${commands.join(' ')}' -- "$word"))
    return
  fi
  case $command in
${cases.join('\n')}
  esac
  case $word in
    -*) COMPREPLY=($(compgen -W "$options" -- "$word")); return ;;
  esac
  case $command in
    ${OF_KINDS.join('|')})
      if [ "$COMP_CWORD" -eq 2 ]; then
        COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" kinds -o name 2>/dev/null)" -- "$word"))
      else
        COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" get "\${COMP_WORDS[2]}" -o name 2>/dev/null | sed 's,^[^/]*/,,')" -- "$word"))
      fi ;;
    ${OF_WORKLOADS.join('|')})
      COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" get workload -o name 2>/dev/null | sed 's,^[^/]*/,,')" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
  esac
}
complete -o default -F _arcus arcus ./arcus
`
  },
  zsh: (program) => {
    const commands = program.commands.map((it) => `'${it.name()}:${plain(it.description())}'`)
    return `#compdef arcus
_arcus() {
  local -a commands names
  commands=(${commands.join(' ')})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
    ${OF_KINDS.join('|')})
      if (( CURRENT == 3 )); then
        names=(\${(f)"$($words[1] kinds -o name 2>/dev/null)"})
      else
        names=(\${\${(f)"$($words[1] get $words[3] -o name 2>/dev/null)"}#*/})
      fi
      compadd -a names ;;
    ${OF_WORKLOADS.join('|')})
      names=(\${\${(f)"$($words[1] get workload -o name 2>/dev/null)"}#*/})
      compadd -a names ;;
    *) _files ;;
  esac
}
compdef _arcus arcus
`
  },
  fish: (program) =>
    [
      'complete -c arcus -f',
      ...program.commands.map(
        (it) => `complete -c arcus -n __fish_use_subcommand -a ${it.name()} -d '${plain(it.description())}'`,
      ),
      ...program.commands.flatMap((it) =>
        it.options
          .filter((one) => one.long)
          .map(
            (one) =>
              `complete -c arcus -n '__fish_seen_subcommand_from ${it.name()}' -l ${one.long?.slice(2)} -d '${plain(one.description)}'`,
          ),
      ),
      `complete -c arcus -n '__fish_seen_subcommand_from ${OF_KINDS.join(' ')}; and test (count (commandline -opc)) -eq 2' -a '(arcus kinds -o name 2>/dev/null)'`,
      `complete -c arcus -n '__fish_seen_subcommand_from ${OF_KINDS.join(' ')}; and test (count (commandline -opc)) -gt 2' -a '(arcus get (commandline -opc)[3] -o name 2>/dev/null | string replace -r "^[^/]*/" "")'`,
      `complete -c arcus -n '__fish_seen_subcommand_from ${OF_WORKLOADS.join(' ')}' -a '(arcus get workload -o name 2>/dev/null | string replace -r "^[^/]*/" "")'`,
      '',
    ].join('\n'),
}
