#!/usr/bin/env perl
# proxy SOCKET FILE: carries TCP connections from a free port of this host, which it writes to FILE,
# to a Unix socket; until it is told otherwise. USR1: it carries nothing more, and closes nothing.
# USR2: it resets all connections, and new ones as they come. HUP: it carries again.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_LINGER);

my ($target, $file) = @ARGV;
my $mode = 'carry';
$SIG{USR1} = sub { $mode = 'freeze' };
$SIG{USR2} = sub { $mode = 'reset' };
$SIG{HUP}  = sub { $mode = 'carry' };
$SIG{PIPE} = 'IGNORE';

my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', Proto => 'tcp')
    or die "proxy: cannot listen: $@\n";
open my $port, '>', "$file.new" or die "proxy: $file: $!\n";
print $port $listener->sockport, "\n";
close $port;
rename "$file.new", $file or die "proxy: $file: $!\n";

my %other;
my $readable = IO::Select->new($listener);

sub end {
    my $one = shift;
    my $peer = delete $other{$one};
    delete $other{$peer} if $peer;
    for my $socket (grep { defined } $one, $peer) {
        $readable->remove($socket);
        setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $mode eq 'reset' && $socket->opened;
        close $socket;
    }
}

while (1) {
    if ($mode eq 'freeze') {
        select undef, undef, undef, 0.05;
        next;
    }
    if ($mode eq 'reset') {
        end($_) for grep { $_ != $listener } $readable->handles;
    }
    for my $socket ($readable->can_read(0.05)) {
        if ($socket == $listener) {
            my $client = $listener->accept or next;
            my $server = $mode eq 'carry' && IO::Socket::UNIX->new(Peer => $target);
            if (!$server) {
                end($client);
                next;
            }
            ($other{$client}, $other{$server}) = ($server, $client);
            $readable->add($client, $server);
            next;
        }
        next if !$other{$socket};
        my $length = sysread $socket, my $bytes, 65536;
        if (!$length) {
            end($socket) if defined $length || !$!{EINTR};
            next;
        }
        while (length $bytes) {
            my $written = syswrite $other{$socket}, $bytes;
            if (defined $written) {
                substr($bytes, 0, $written) = '';
            } elsif (!$!{EINTR}) {
                end($socket);
                last;
            }
        }
    }
}
