import type { HeldAttachment, Links } from '#drivers/docker/attach.ts'
import { run } from './image.ts'

const ip = async (...args: readonly string[]): Promise<void> => {
  await run('ip', [...args])
}

/**
 * A network of the kernel's own means for one subnet: a namespace that routes between attachments and the host. The same
 * shape as a VPC's router without its rules, so that these tests need no other driver.
 */
export async function openLinks(
  name: string,
  attachments: readonly HeldAttachment[],
): Promise<Links & { close(): Promise<void> }> {
  const held = new Map(attachments.map((it) => [it.plan.id, it]))
  const namesOf = (id: string) => ({ inside: `r${id.slice(-12)}`, outside: `c${id.slice(-12)}` })
  const netns = async (...args: readonly string[]) => ip('-n', name, ...args)
  const sysctl = async (key: string, value: string) => {
    await run('ip', ['netns', 'exec', name, 'sysctl', '-qw', `${key}=${value}`])
  }
  await ip('netns', 'add', name)
  await ip('link', 'add', `${name}0`, 'type', 'veth', 'peer', 'name', 'up0', 'netns', name)
  await ip('addr', 'add', '100.127.255.0/31', 'dev', `${name}0`)
  await ip('link', 'set', `${name}0`, 'up')
  await netns('addr', 'add', '100.127.255.1/31', 'dev', 'up0')
  await netns('link', 'set', 'up0', 'up')
  await netns('link', 'set', 'lo', 'up')
  await netns('route', 'add', 'default', 'via', '100.127.255.0')
  await sysctl('net.ipv4.ip_forward', '1')
  await sysctl('net.ipv6.conf.all.forwarding', '1')
  for (const { plan } of attachments) await ip('route', 'replace', plan.fabric, 'via', '100.127.255.1')
  const removeLink = async (id: string): Promise<void> => {
    await netns('link', 'del', namesOf(id).inside).catch(() => {})
  }
  return {
    attachment: (id) => held.get(id),
    async createLink(id) {
      const it = held.get(id)
      if (!it) throw new Error(`no attachment ${id}`)
      const { inside, outside } = namesOf(id)
      await removeLink(id)
      await ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name)
      await sysctl(`net.ipv4.conf.${inside}.proxy_arp`, '1')
      await netns('addr', 'add', `${it.subnet.gateway}/32`, 'dev', inside)
      await netns('addr', 'add', 'fe80::1/64', 'dev', inside, 'nodad')
      await netns('link', 'set', inside, 'up')
      await netns('route', 'replace', it.plan.address, 'dev', inside)
      await netns('-6', 'route', 'replace', it.plan.address6, 'dev', inside)
      return { containerLink: outside }
    },
    removeLink,
    dockerStarted: () => Promise.resolve(),
    close: () => ip('netns', 'del', name),
  }
}
