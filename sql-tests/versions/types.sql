-- Users' types, which both sides must have.
CREATE TYPE public.mood AS ENUM ('sad', 'so "so", \ ', 'happy');
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
CREATE TYPE public.pair AS (a int, b text);
